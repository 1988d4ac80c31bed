"""Words of other languages that name a table's columns and values, in English."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Words that English has with another meaning (``data``, ``pays``) are left out.
_ENGLISH: Final[dict[str, tuple[str, ...]]] = {
    # who pays, with what, where, to whom
    "customer": (
        "cliente",
        "comprador",
        "kunde",
        "kunden",
        "klient",
        "klant",
        "acheteur",
        "portador",
        "titular",
        "tarjetahabiente",
        "karteninhaber",
        "porteur",
        "kaarthouder",
        "musteri",
    ),
    "customer number": ("kundennummer", "kundennr", "klantnummer", "cpf"),
    "account": ("cuenta", "konto", "compte", "conta", "conto", "rekening"),
    "account number": ("kontonummer", "kontonr", "rekeningnummer"),
    "card": ("tarjeta", "karte", "karten", "carte", "cartao", "carta", "karta", "kaart", "kart"),
    "card number": ("kartennummer", "kartennr", "kaartnummer"),
    "merchant": (
        "comercio",
        "händler",
        "haendler",
        "commercant",
        "esercente",
        "sprzedawca",
        "establecimiento",
        "estabelecimento",
        "vertragsunternehmen",
        "handelaar",
        "isyeri",
    ),
    "merchant number": ("cnpj",),
    "store": ("tienda", "magasin", "loja", "negozio", "sklep", "winkel", "filiale"),
    "device": ("dispositivo", "gerät", "geraet", "appareil", "urzadzenie", "apparaat", "cihaz"),
    "address": ("direccion", "adresse", "endereco", "indirizzo", "adres"),
    "email": ("correo",),
    "phone": ("telefono", "telefon", "telefone", "telefoon"),
    # what is paid, when, and in which order
    "id": ("codigo", "identificador", "kennung", "identifiant"),
    "number": ("numero", "nummer", "numer"),
    "order": ("pedido", "bestellung", "commande", "ordine", "zamowienie", "bestelling"),
    "order number": ("bestellnummer", "bestelnummer", "auftragsnummer"),
    "payment": ("pago", "zahlung", "zahlungs", "paiement", "pagamento", "platnosc", "betaling"),
    "transaction": (
        "transaccion",
        "transaktion",
        "transaktions",
        "transacao",
        "transazione",
        "transakcja",
        "islem",
    ),
    "amount": (
        "importe",
        "monto",
        "valor",
        "betrag",
        "montant",
        "importo",
        "kwota",
        "bedrag",
        "tutar",
        "tutari",
    ),
    "currency": (
        *("divisa", "moneda", "währung", "waehrung", "devise", "moeda", "valuta", "waluta"),
        *("doviz", "para"),
    ),
    "cents": (
        *("kurus", "centimos", "centavos", "centimes", "centesimi", "groszy", "grosze", "rappen"),
        *("haler", "haleru", "oere"),
    ),
    "fee": ("gebühr", "gebuehr", "disagio", "comision", "frais", "taxa", "prowizja"),
    "date": ("fecha", "datum", "tarih", "tarihi"),
    "time": ("hora", "uhrzeit", "heure", "godzina", "tijd", "czas", "saat", "saati"),
    "birth": ("nacimiento", "geburtsdatum", "naissance", "nascimento", "urodzenia"),
    "country": ("pais", "land", "paese", "kraj", "ulke"),
    "city": ("ciudad", "stadt", "ville", "cidade", "citta", "miasto", "sehir"),
    "brand": ("bandeira", "marca", "marque"),
    "type": ("typ", "tipo", "tipi"),
    # what became of it
    "fraud": ("fraude", "betrug", "betrugsfall", "frode", "oszustwo", "sahte"),
    "reported": ("gemeldet", "reportado", "signale", "segnalato", "gemeld", "zgloszono"),
    "balance": ("saldo", "solde", "kontostand"),
    "chargeback": (
        "contracargo",
        "rückbuchung",
        "rueckbuchung",
        "estorno",
        "impaye",
        "rückbelastung",
        "rueckbelastung",
        "retrofacturation",
    ),
    "dispute": (
        "disputa",
        "reklamation",
        "litige",
        "reklamacja",
        "contestacao",
        "contestacion",
        "contestation",
        "contestazione",
        "disputation",
        "itiraz",
    ),
    "refund": (
        "devolucion",
        "reembolso",
        "erstattung",
        "remboursement",
        "rimborso",
        "zwrot",
        "iade",
    ),
    "refunded": ("devuelto", "reembolsado", "erstattet", "rembourse", "zwrocono"),
    "status": ("estado", "statut", "stato", "situacao", "durum", "durumu"),
    "reason": ("motivo", "grund", "motif", "powod", "reden", "neden"),
    "declined": (
        *("rechazo", "rechazado", "rechazada", "denegado", "denegada", "abgelehnt", "ablehnung"),
        *("refus", "recusado", "recusada", "rifiutato", "rifiutata", "odrzucona", "odrzucono"),
        *("odmowa", "geweigerd", "reddedildi"),
    ),
    "approved": (
        *("aprobado", "aprobada", "aceptado", "aceptada", "genehmigt", "approuve", "accepte"),
        *("aprovado", "aprovada", "approvato", "zaakceptowana", "goedgekeurd", "onaylandi"),
    ),
    "paid": ("cobrado", "cobrada", "pagado", "pagada", "bezahlt", "pago", "pagato", "betaald"),
    "pending": ("pendiente", "ausstehend", "pendente", "oczekuje"),
    "lost": ("verloren", "perdido", "perdida", "perdu", "perso"),
    "won": ("gewonnen", "ganado", "ganada", "ganho", "ganha", "gagne", "vinto"),
    "open": ("offen", "abierto", "abierta", "aberto", "aberta", "ouvert"),
    "yes": ("si", "ja", "oui", "sim", "tak", "evet"),
    "no": ("nein", "non", "nao", "nie", "nee", "hayir"),
}
# Languages whose words have no accents to lose; Japanese and Chinese write them without blanks.
_OTHER_SCRIPTS: Final[dict[str, tuple[str, ...]]] = {
    "customer": (
        "会員",
        "顧客",
        "お客様",
        "利用者",
        "客户",
        "用户",
        "客戶",
        "고객",
        "회원",
        "клиент",
        "покупатель",
    ),
    "card": ("カード", "卡", "카드", "карта", "карты"),
    "card number": ("卡号", "卡號"),
    "merchant": ("加盟店", "商户", "商家", "商戶", "가맹점", "продавец", "магазин"),
    "store": ("店舗", "店铺", "매장"),
    "device": ("端末", "デバイス", "设备", "設備", "기기", "устройство"),
    "address": ("住所", "アドレス", "地址", "주소", "адрес"),
    "email": ("メール", "邮箱", "이메일", "почта"),
    "phone": ("電話", "电话", "전화", "телефон"),
    "number": ("番号", "号", "编号", "번호", "номер"),
    "order": ("注文", "订单", "訂單", "주문", "заказ", "заказа"),
    "payment": ("支払", "決済", "支付", "付款", "결제", "платеж", "платёж", "оплата"),
    "transaction": ("取引", "交易", "거래", "транзакция", "транзакции", "операция", "операции"),
    "amount": ("金額", "金额", "금액", "сумма"),
    "currency": ("通貨", "货币", "币种", "통화", "валюта"),
    "date": ("日付", "日", "年月日", "日期", "일자", "날짜", "дата"),
    "time": ("時刻", "時間", "时间", "시간", "시각", "время"),
    "datetime": ("日時", "일시"),
    "birth": ("生年月日", "出生", "생년월일", "рождения"),
    "country": ("国", "国家", "국가", "страна"),
    "city": ("市", "城市", "도시", "город"),
    "type": ("種別", "区分", "类型", "방법", "方法", "тип"),
    "fraud": ("不正", "欺诈", "詐騙", "사기", "мошенничество"),
    "chargeback": ("チャージバック", "拒付", "차지백", "чарджбэк"),
    "refund": ("返金", "退款", "환불", "возврат"),
    "status": ("状態", "ステータス", "状态", "상태", "статус"),
    "reason": ("理由", "原因", "사유", "причина"),
    "flag": ("フラグ", "标志"),
    "is": ("是否", "여부"),
    "declined": ("拒否", "否認", "拒绝", "거절", "отклонено", "отказ"),
    "approved": ("承認", "批准", "승인", "одобрено"),
    "legitimate": ("正常", "정상", "正当", "нормально"),
    "yes": ("はい", "是", "예", "да"),
    "no": ("いいえ", "否", "아니오", "нет"),
}
_UNSPACED: Final = re.compile(
    "["
    "\u3040-\u30ff"  # kana
    "\u3400-\u9fff"  # Chinese characters
    "\uac00-\ud7af"  # Hangul: words are often written together in names of columns
    "]+"
)
# Letters that are no plain one with an accent.
_WHOLE_LETTERS: Final = str.maketrans({"ł": "l", "ß": "ss", "ı": "i", "œ": "oe"})
_WORDS: Final = {word: english for english, others in reversed(_ENGLISH.items()) for word in others}
_SCRIPT_WORDS: Final = {
    word: english for english, others in _OTHER_SCRIPTS.items() for word in others
}
_LONGEST: Final = max(map(len, _SCRIPT_WORDS))


def in_english(word: str) -> str:
    """A word in lower case, in English if it is known in another language.

    >>> in_english("código"), in_english("kundennummer"), in_english("merchant")
    ('id', 'customer number', 'merchant')
    >>> in_english("gerätekennung"), in_english("händlername"), in_english("zahlungsdatum")
    ('device id', 'merchant name', 'payment date')
    >>> in_english("取引日時"), in_english("カード番号"), in_english("сумма")
    ('transaction datetime', 'card number', 'amount')
    """
    if not word.isascii():
        if word in _SCRIPT_WORDS:
            return _SCRIPT_WORDS[word]
        if _UNSPACED.search(word):
            return " ".join(_parts(word)) or word
    plain = _plain_letters(word)
    return _WORDS.get(word) or _WORDS.get(plain) or _compound(plain) or word


def _compound(word: str) -> str:
    """Two known words written as one, as German and Dutch do, in English; "" if it is none."""
    for first in _FIRST_PARTS:
        if not word.startswith(first):
            continue
        for joint in ("", "s", "n", "e", "en", "es"):
            second = word[len(first) :].removeprefix(joint)
            if english := _SECOND_PARTS.get(second):
                return f"{_WORDS[_PARTS[first]]} {english}"
    return ""


def _parts(word: str) -> list[str]:
    """The known words that a name without blanks is made of, the longest first, in English."""
    found: list[str] = []
    at = 0
    while at < len(word):
        for length in range(min(_LONGEST, len(word) - at), 0, -1):
            english = _SCRIPT_WORDS.get(word[at : at + length])
            if english:
                found.append(english)
                break
        else:
            length = 1
        at += length
    latin = re.sub(_UNSPACED, " ", word).split()
    return [*found, *latin]


def _plain_letters(word: str) -> str:
    """A word without accents; ``nº`` is ``no``."""
    parts = unicodedata.normalize("NFKD", word.translate(_WHOLE_LETTERS))
    plain = "".join(letter for letter in parts if not unicodedata.combining(letter))
    return plain if plain != "no" else "number"


_PARTS: Final = {_plain_letters(word): word for word in _WORDS if len(word) > 3}
_FIRST_PARTS: Final = sorted(_PARTS, key=len, reverse=True)
_SECOND_PARTS: Final = {
    **{plain: _WORDS[word] for plain, word in _PARTS.items()},
    "name": "name",
    "code": "code",
    "id": "id",
    "nr": "number",
    "typ": "type",
    "zeit": "time",
}
