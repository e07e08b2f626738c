// The console's page: runs SQL, shows nodes and status. Plain script; everything from the server is set as text, never
// as markup.
"use strict";

const byId = (id) => document.getElementById(id);
const rows_shown_max = 1000;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function call(path, options) {
  const response = await fetch(path, options);
  const text = await response.text();
  if (!response.ok) throw new Error(text.trim() || `${response.status} ${response.statusText}`);
  return text;
}

// Integers beyond 2^53 would lose digits as numbers of this language; they are kept as texts.
function parseExact(text) {
  return JSON.parse(text, (key, value, context) => {
    const exact = typeof value === "number" && context && /^-?\d+$/.test(context.source) && !Number.isSafeInteger(value);
    return exact ? context.source : value;
  });
}

// A text with a semicolon is split behind those that end a line; one without is one statement per line. A trigger has
// semicolons inside, so a text that makes one is sent whole.
function statements(text) {
  const makes_trigger = /\bcreate\s+(temp\s+|temporary\s+)?trigger\b/i.test(text);
  const pieces = makes_trigger ? [text] : /;/.test(text) ? text.split(/;[ \t]*(?:\r?\n|$)/) : text.split(/\r?\n/);
  return pieces.map((piece) => piece.trim()).filter((piece) => piece !== "");
}

function tableOf(columns, types, rows) {
  const table = element("table");
  const head = table.createTHead().insertRow();
  columns.forEach((name, at) => {
    const cell = element("th", name + " ");
    if (types && types[at]) cell.append(element("small", types[at]));
    head.append(cell);
  });
  const body = table.createTBody();
  for (const row of rows.slice(0, rows_shown_max)) {
    const line = body.insertRow();
    for (const value of row) {
      const cell = line.insertCell();
      cell.textContent = value === null ? "NULL" : typeof value === "object" ? JSON.stringify(value) : String(value);
      if (value === null) cell.className = "null";
    }
  }
  return table;
}

function showResult(result, sql) {
  const box = element("div", undefined, "result");
  box.append(element("div", sql, "note"));
  if (result.error) {
    box.append(element("div", result.error, "error"));
  } else if (result.columns) {
    const rows = result.values || [];
    box.append(tableOf(result.columns, result.types, rows));
    const shown = rows.length > rows_shown_max ? `, the first ${rows_shown_max} shown` : "";
    box.append(element("div", `${rows.length} rows${shown}`, "note"));
  } else {
    const parts = [];
    if (result.rows_affected) parts.push(`${result.rows_affected} rows affected`);
    if (result.last_insert_id) parts.push(`last insert id ${result.last_insert_id}`);
    box.append(element("div", parts.join(", ") || "done", "note"));
  }
  return box;
}

async function run(event) {
  if (event) event.preventDefault();
  const list = statements(byId("text").value);
  const results = byId("results");
  results.replaceChildren();
  byId("time").textContent = "";
  if (list.length === 0) return;
  const query = new URLSearchParams({ timings: "", level: byId("level").value });
  if (byId("transaction").checked) query.set("transaction", "");
  try {
    const answer = parseExact(await call(`../db/request?${query}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(list),
    }));
    if (answer.error) results.append(element("div", answer.error, "error"));
    answer.results.forEach((result, at) => results.append(showResult(result, list[at])));
    if (answer.time !== undefined) byId("time").textContent = `${(answer.time * 1000).toFixed(2)} ms`;
  } catch (problem) {
    results.append(element("div", problem.message, "error"));
  }
}

async function showNodes() {
  const section = byId("nodes");
  try {
    const { nodes } = JSON.parse(await call("../nodes?ver=2&nonvoters&timeout=3s"));
    const columns = ["id", "api_addr", "addr", "version", "voter", "reachable", "leader", "time_s", "error"];
    section.replaceChildren(tableOf(columns, null, nodes.map((node) => columns.map((name) => node[name] ?? ""))));
  } catch (problem) {
    section.replaceChildren(element("div", problem.message, "error"));
  }
}

async function showStatus() {
  const key = byId("key").value.trim();
  const out = byId("document");
  try {
    const text = await call("../status?pretty" + (key ? `&key=${encodeURIComponent(key)}` : ""));
    out.textContent = key ? JSON.stringify(parseExact(text), null, 4) : text;
  } catch (problem) {
    out.textContent = problem.message;
  }
}

async function showIdentity() {
  try {
    const store = JSON.parse(await call("../status?key=store"));
    byId("identity").textContent = store.raft ? `${store.node_id}, ${store.raft.state}` : "store not open";
  } catch (problem) {
    byId("identity").textContent = problem.message;
  }
}

function choose(name) {
  for (const other of ["sql", "nodes", "status"]) {
    byId(other).hidden = other !== name;
    byId(`tab-${other}`).setAttribute("aria-pressed", String(other === name));
  }
  if (name === "nodes") showNodes();
  if (name === "status") showStatus();
}

byId("form").addEventListener("submit", run);
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(event);
});
byId("key").addEventListener("change", showStatus);
for (const name of ["sql", "nodes", "status"]) byId(`tab-${name}`).addEventListener("click", () => choose(name));
showIdentity();
