"""Words of other languages that name a table's columns and values, in English."""

from __future__ import annotations

import unicodedata
from typing import Final

# Words that English has with another meaning (``data``, ``pays``) are left out.
_ENGLISH: Final[dict[str, tuple[str, ...]]] = {
    # who pays, with what, where, to whom
    "customer": ("cliente", "comprador", "kunde", "klient", "klant", "acheteur"),
    "customer number": ("kundennummer", "kundennr", "klantnummer"),
    "card": ("tarjeta", "karte", "carte", "cartao", "carta", "karta", "kaart"),
    "card number": ("kartennummer", "kaartnummer"),
    "merchant": ("comercio", "händler", "haendler", "commercant", "esercente", "sprzedawca"),
    "store": ("tienda", "magasin", "loja", "negozio", "sklep", "winkel", "filiale"),
    "device": ("dispositivo", "gerät", "geraet", "appareil", "urzadzenie", "apparaat"),
    "address": ("direccion", "adresse", "endereco", "indirizzo", "adres"),
    "email": ("correo",),
    "phone": ("telefono", "telefon", "telefone", "telefoon"),
    # what is paid, when, and in which order
    "id": ("codigo", "identificador", "kennung", "identifiant"),
    "number": ("numero", "nummer", "numer"),
    "order": ("pedido", "bestellung", "commande", "ordine", "zamowienie", "bestelling"),
    "order number": ("bestellnummer", "bestelnummer", "auftragsnummer"),
    "payment": ("pago", "zahlung", "paiement", "pagamento", "platnosc", "betaling"),
    "transaction": ("transaccion", "transaktion", "transacao", "transazione", "transakcja"),
    "amount": ("importe", "monto", "valor", "betrag", "montant", "importo", "kwota", "bedrag"),
    "currency": ("divisa", "moneda", "währung", "waehrung", "devise", "moeda", "valuta", "waluta"),
    "date": ("fecha", "datum"),
    "time": ("hora", "uhrzeit", "heure", "godzina", "tijd", "czas"),
    "birth": ("nacimiento", "geburtsdatum", "naissance", "nascimento", "urodzenia"),
    "country": ("pais", "land", "paese", "kraj"),
    "city": ("ciudad", "stadt", "ville", "cidade", "citta", "miasto"),
    # what became of it
    "fraud": ("fraude", "betrug", "frode", "oszustwo"),
    "chargeback": ("contracargo", "rückbuchung", "rueckbuchung", "estorno", "impaye"),
    "dispute": ("disputa", "reklamation", "litige", "reklamacja"),
    "refund": ("devolucion", "reembolso", "erstattung", "remboursement", "rimborso", "zwrot"),
    "refunded": ("devuelto", "reembolsado", "erstattet", "rembourse", "zwrocono"),
    "status": ("estado", "statut", "stato", "situacao"),
    "reason": ("motivo", "grund", "motif", "powod", "reden"),
    "declined": (
        *("rechazo", "rechazado", "rechazada", "denegado", "denegada", "abgelehnt", "ablehnung"),
        *("refus", "recusado", "recusada", "rifiutato", "rifiutata", "odrzucona", "odrzucono"),
        *("odmowa", "geweigerd"),
    ),
    "approved": (
        *("aprobado", "aprobada", "aceptado", "aceptada", "genehmigt", "approuve", "accepte"),
        *("aprovado", "aprovada", "approvato", "zaakceptowana", "goedgekeurd"),
    ),
    "paid": ("cobrado", "cobrada", "pagado", "pagada", "bezahlt", "pago", "pagato", "betaald"),
    "pending": ("pendiente", "ausstehend", "pendente", "oczekuje"),
    "yes": ("si", "ja", "oui", "sim", "tak"),
    "no": ("nein", "non", "nao", "nie", "nee"),
}
_WORDS: Final = {word: english for english, others in reversed(_ENGLISH.items()) for word in others}


def in_english(word: str) -> str:
    """A word in lower case, in English if it is known in another language.

    >>> in_english("código"), in_english("kundennummer"), in_english("merchant")
    ('id', 'customer number', 'merchant')
    """
    return _WORDS.get(word) or _WORDS.get(_plain_letters(word)) or word


def _plain_letters(word: str) -> str:
    """A word without accents; ``nº`` is ``no``."""
    parts = unicodedata.normalize("NFKD", word.replace("ł", "l").replace("ß", "ss"))
    plain = "".join(letter for letter in parts if not unicodedata.combining(letter))
    return plain if plain != "no" else "number"
