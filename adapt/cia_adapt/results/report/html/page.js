"use strict";
const READABLE = 300;  // rows of a figure's numbers that the page lists; the CSV file has all

function rowsOf(columns) {
  const cells = column => Array.isArray(column) ? column : column.at.map(i => column.values[i]);
  const names = Object.keys(columns), full = names.map(name => cells(columns[name]));
  return (full[0] ?? []).map((_, i) => Object.fromEntries(names.map((name, k) => [name, full[k][i]])));
}

// A text that a spreadsheet would run as a formula gets an apostrophe before it, as in all CSV files of cia-adapt.
function csvCell(value) {
  const text = value === null ? "" : String(value);
  const formula = typeof value === "string" && /^'*[=+\-@\t\r]/.test(text) && !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
  const safe = formula ? "'" + text : text;
  return /[",\r\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
}

function offer(link, columns) {
  const lines = [Object.keys(columns), ...rowsOf(columns).map(Object.values)].map(cells => cells.map(csvCell).join(",") + "\n");
  link.href = URL.createObjectURL(new Blob(lines, {type: "text/csv"}));
  link.download = link.dataset.csv;
}

async function draw(figure, data) {
  data.spec.datasets = {...data.spec.datasets, numbers: data.rows};
  const options = {actions: false, renderer: "svg", logLevel: 1, ast: true, tooltip: {theme: "custom"}};
  return (await vegaEmbed(figure.querySelector(".drawing > div"), data.spec, options)).view;
}

// The numbers that the chart shows now, as a table: what a pointer meets on hover, for a keyboard.
function listNumbers(details, data) {
  details.querySelector(".scroll")?.remove();
  const rows = data.rows.filter(row => Object.entries(data.chosen).every(([name, value]) => !(name in row) || row[name] === value));
  const box = document.createElement("div");
  Object.assign(box, {className: "scroll long", tabIndex: 0, role: "region", ariaLabel: "Numbers"});
  const table = box.appendChild(document.createElement("table"));
  const head = table.createTHead().insertRow();
  const names = Object.keys(rows[0] ?? {}).filter(name => !(name in data.chosen) || name === "method");
  for (const name of names) head.appendChild(Object.assign(document.createElement("th"), {textContent: name, scope: "col"}));
  const body = table.createTBody();
  for (const row of rows.slice(0, READABLE)) {
    const line = body.insertRow();
    for (const name of names) {
      const value = row[name];
      Object.assign(line.insertCell(), {textContent: value ?? "", className: typeof value === "number" ? "number" : "", dir: "auto"});
    }
  }
  if (rows.length > READABLE) body.insertRow().insertCell().textContent = `… ${rows.length - READABLE} more rows in the CSV file`;
  details.append(box);
}

function sortBy(header) {
  const table = header.closest("table"), body = table.tBodies[0], column = header.cellIndex;
  const rising = header.getAttribute("aria-sort") === "descending" || (!header.hasAttribute("aria-sort") && !header.classList.contains("number"));
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const text = row => row.cells[column].textContent.trim();
  const number = row => parseFloat(text(row).replace("−", "-"));
  const compare = header.classList.contains("number") ? (a, b) => number(a) - number(b) : (a, b) => text(a).localeCompare(text(b), undefined, {numeric: true});
  const empty = row => header.classList.contains("number") ? Number.isNaN(number(row)) : text(row) === "";
  const rows = [...body.rows];
  const full = rows.filter(row => !empty(row)).sort((a, b) => rising ? compare(a, b) : compare(b, a));
  body.append(...full, ...rows.filter(empty));
}

for (const header of document.querySelectorAll(".table th")) header.querySelector("button").addEventListener("click", () => sortBy(header));
for (const table of document.querySelectorAll(".table")) offer(table.querySelector("[data-csv]"), JSON.parse(table.querySelector("script").textContent).columns);

async function main() {
  for (const section of document.querySelectorAll("section")) {
    const drawn = [];
    for (const figure of section.querySelectorAll("figure")) {
      const script = figure.querySelector("script");
      if (!script) continue;
      const data = JSON.parse(script.textContent);
      data.rows = rowsOf(data.columns);
      data.chosen = Object.fromEntries((data.spec?.params ?? []).map(one => [one.name, one.value]));
      data.details = figure.querySelector(".numbers");
      data.details.addEventListener("toggle", () => data.details.open && listNumbers(data.details, data));
      offer(figure.querySelector("[data-csv]"), data.columns);
      if (data.spec) data.view = await draw(figure, data);
      drawn.push(data);
    }
    for (const menu of section.querySelectorAll("[data-choice]")) {
      menu.addEventListener("change", async () => {
        for (const data of drawn.filter(one => menu.dataset.choice in one.chosen)) {
          data.chosen[menu.dataset.choice] = menu.value;
          await data.view.signal(menu.dataset.choice, menu.value).runAsync();
          if (data.details.open) listNumbers(data.details, data);
        }
      });
    }
  }
  document.documentElement.dataset.ready = "yes";
}
main();
