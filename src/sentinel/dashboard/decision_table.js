// Rows carry their place in the log, so a click names its payment whatever has arrived since.
const HEADINGS = [
  ["Time", "time"], ["Transaction", "transaction"], ["Amount", "number"],
  ["Fraud probability", ""], ["Decision", ""], ["Weighed heaviest", "reason"],
];

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function cell(row, className, ...content) {
  const td = element("td", className);
  td.append(...content);
  row.append(td);
}

function skeleton(root) {
  const scroll = element("div", "scroll");
  const table = element("table");
  const head = element("tr");
  for (const [title, className] of HEADINGS) head.append(element("th", className, title));
  const thead = element("thead");
  thead.append(head);
  table.append(thead, element("tbody"));
  scroll.append(table);
  root.append(scroll);
  return scroll;
}

function drawn(decision, open, fresh, pick) {
  const row = element("tr", [open ? "open" : "", fresh ? "fresh" : ""].join(" ").trim());
  row.tabIndex = 0;
  row.dataset.sequence = decision.sequence;
  row.setAttribute("aria-selected", String(open));
  row.onclick = () => pick(decision.sequence);
  row.onkeydown = (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pick(decision.sequence);
    }
  };
  const time = element("span", "", decision.time);
  time.title = decision.moment;
  cell(row, "time", time);
  cell(row, "transaction", decision.transaction);
  cell(row, "number", decision.amount);
  const bar = element("div", "track");
  const fill = element("div", "fill");
  fill.style.width = `${100 * decision.probability}%`;
  bar.append(fill);
  const probability = element("div", `probability ${decision.outcome}`);
  probability.append(bar, element("span", "percent", decision.percent));
  cell(row, "", probability);
  const badge = [element("span", `badge ${decision.outcome}`, decision.decision)];
  if (decision.degraded) badge.push(element("span", "note", "without history"));
  if (decision.void) badge.push(element("span", "note", "void"));
  if (decision.label) badge.push(element("span", "note", `known ${decision.label}`));
  cell(row, "", ...badge);
  const reason = element("span", "", decision.reason);
  reason.title = decision.reason;
  cell(row, `reason of-${decision.outcome}`, reason);
  return row;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const scroll = parentElement.querySelector(".scroll") ?? skeleton(parentElement);
  const body = scroll.querySelector("tbody");
  const focused = parentElement.activeElement?.dataset?.sequence;
  const newest = Number(body.dataset.newest ?? Infinity);
  const pick = (sequence) => setTriggerValue("picked", sequence);
  const rows = data.rows.map((decision) =>
    drawn(decision, decision.sequence === data.open, decision.sequence > newest, pick));
  if (rows.length === 0) {
    const row = element("tr");
    const td = element("td", "empty", data.empty);
    td.colSpan = HEADINGS.length;
    row.append(td);
    rows.push(row);
  }
  body.dataset.newest = data.rows.length ? data.rows[0].sequence : 0;
  body.replaceChildren(...rows);
  if (focused) body.querySelector(`[data-sequence="${focused}"]`)?.focus({ preventScroll: true });
}
