"use strict";
// Texts reach the page as text, never as HTML.

const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("token") || "";
let about = null;
let picked = null; // number of the held-out row whose input stands unchanged in the form
let shown = 0;

async function call(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (token) headers.Authorization = `Bearer ${token}`;
  const reply = await fetch(path, { ...options, headers });
  if (reply.status === 401) showLogin(token ? "That is not it." : "");
  if (!reply.ok) throw new Error((await reply.json()).error.message);
  return reply;
}

const post = (path, body) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

function showLogin(message) {
  $("login").hidden = false;
  $("content").hidden = true;
  $("login-error").textContent = message;
}

function fill(parent, pieces) {
  parent.replaceChildren(...pieces.map(([kind, text]) => {
    if (kind === "same") return document.createTextNode(text);
    const mark = document.createElement(kind);
    mark.textContent = text;
    return mark;
  }));
}

async function begin() {
  about = await (await call("/api/about")).json();
  $("login").hidden = true;
  $("content").hidden = false;
  document.title = `${about.run}: try it`;
  $("run").textContent = about.run;
  $("base").textContent = `an adapter of ${about.base}`;
  $("verdict").classList.add(["better", "worse"].includes(about.word) ? about.word : "same");
  $("word").textContent = about.word || "";
  $("summary").textContent = about.summary;
  $("doubt").textContent = about.warning || "";
  $("fields").replaceChildren(...about.fields.flatMap((name, place) => {
    const label = document.createElement("label");
    label.htmlFor = `field-${place}`;
    label.textContent = name;
    const area = document.createElement("textarea");
    area.id = `field-${place}`;
    area.name = name;
    area.rows = 2;
    area.dir = "auto";
    area.addEventListener("input", () => { picked = null; });
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
    });
    return [label, area];
  }));
  const example = JSON.stringify({ model: about.run, prompt: "..." }).replaceAll("'", "'\\''");
  const bearer = token ? " \\\n  -H \"Authorization: Bearer $SERVE_TOKEN\"" : "";
  $("program").textContent = `curl ${location.origin}/v1/completions${bearer} \\\n  -H "Content-Type: application/json" -d '${example}'\n\n` +
    `from openai import OpenAI\nclient = OpenAI(base_url="${location.origin}/v1", api_key="${token ? "SERVE_TOKEN" : "none"}")\n` +
    `client.completions.create(model="${about.run}", prompt="...").choices[0].text  # or model="base"`;
  $("random").hidden = !about.rows.all;
  $("rows").hidden = !about.rows.all;
  for (const option of $("order").options) option.textContent += ` (${about.rows[option.value]})`;
  if (!about.rows.worse) $("order").value = about.rows.better ? "better" : "all";
  if (about.rows.all) await list();
}

async function ask(body) {
  $("send").disabled = true;
  $("ask-error").textContent = "";
  $("asked").textContent = "asking ...";
  try {
    const answer = await (await post("/api/ask", body)).json();
    for (const side of ["base", "adapter"]) {
      const { pieces, confidence, tokens, ended } = answer[side];
      const [text, note] = $(`side-${side}`).querySelectorAll("p");
      fill(text, pieces);
      note.textContent = `sure to ${(100 * confidence).toFixed(confidence > 0.995 ? 1 : 0)} % a token, ${tokens} tokens` +
        (ended ? "" : "; cut off at the longest answer");
    }
    $("truth").hidden = answer.truth === null;
    $("truth").querySelector(".text").textContent = answer.truth || "";
    $("legend").textContent = answer.truth === null ? "Marked: words that the other side does not have." :
      "Marked: not in the right answer. Struck through: in the right answer, but missing here.";
    $("answers").hidden = false;
    $("asked").textContent = `${answer.seconds.toFixed(1)} s`;
  } catch (error) {
    $("asked").textContent = "";
    $("ask-error").textContent = error.message;
  } finally {
    $("send").disabled = false;
  }
}

function pick(row) {
  document.querySelectorAll("#fields textarea").forEach((area, place) => { area.value = place ? "" : row.input; });
  picked = row.number;
  $("ask").scrollIntoView({ block: "start" });
  return ask({ held_out: row.number });
}

async function page(order, find, from) {
  return (await call(`/api/rows?${new URLSearchParams({ order, find, from })}`)).json();
}

async function list(more = false) {
  const from = more ? shown : 0;
  const { found, rows } = await page($("order").value, $("find").value, from);
  const cards = rows.map(card);
  if (more) $("list").append(...cards); else $("list").replaceChildren(...cards);
  shown = from + rows.length;
  $("found").textContent = found ? `${shown} of ${found}` : "none";
  $("more").hidden = shown >= found;
}

function card(row) {
  const box = document.createElement("div");
  const texts = document.createElement("dl");
  const button = document.createElement("button");
  box.className = "change";
  const lines = [["input", [["same", row.input]]], ["right answer", [["same", row.truth]]], ["base", row.base],
    ["adapter", row.adapter], [about.metric, [["same", row.score]]]];
  for (const [name, pieces] of lines) {
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.dir = "auto";
    fill(text, pieces);
    texts.append(term, text);
  }
  button.type = "button";
  button.className = "quiet";
  button.textContent = "Ask again";
  button.addEventListener("click", () => pick(row));
  box.append(texts, button);
  return box;
}

async function answerTable(event) {
  event.preventDefault();
  const file = $("file").files[0];
  const text = $("paste").value;
  $("table-error").textContent = $("table-status").textContent = "";
  if (!file && !text.trim()) { $("table-error").textContent = "Choose a file, or paste a table."; return; }
  const name = file ? file.name : text.split("\n")[0].includes("\t") ? "pasted.tsv" : "pasted.csv";
  const content = file || new Blob([text]);
  if (content.size > about.table_bytes) {
    const [size, most] = [content.size, about.table_bytes].map((bytes) => Math.ceil(bytes / 2 ** 20));
    $("table-error").textContent = `${name} has ${size} MiB; at most ${most} MiB are read. Send it in parts.`;
    return;
  }
  $("answer-table").disabled = true;
  try {
    $("table-status").textContent = "reading ...";
    const headers = { "Content-Type": "application/octet-stream" };
    const reply = await call(`/api/tables?${new URLSearchParams({ name })}`, { method: "POST", headers, body: content });
    const made = await follow(reply.body);
    const answered = await (await call(made.fetch)).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(answered);
    link.download = made.name;
    link.textContent = `Save ${made.name}`;
    link.id = "saved";
    $("table-status").append(". ", link);
    link.click();
  } catch (error) {
    $("table-status").textContent = "";
    $("table-error").textContent = error.message;
  } finally {
    $("answer-table").disabled = false;
    $("progress").hidden = true;
  }
}

async function follow(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The server went away before the table was answered.");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.map(JSON.parse)) {
      if (line.error) throw new Error(line.error);
      if (line.fetch) return line;
      $("progress").hidden = false;
      $("progress").value = line.rows ? line.done / line.rows : 1;
      $("table-status").textContent = `${line.done} of ${line.rows} rows`;
    }
  }
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("token", token);
  begin().catch(() => {});
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const areas = [...document.querySelectorAll("#fields textarea")];
  ask(picked === null ? { row: Object.fromEntries(areas.map((area) => [area.name, area.value])) } : { held_out: picked });
});
$("random").addEventListener("click", async () => {
  const { rows } = await page("all", "", Math.floor(Math.random() * about.rows.all));
  pick(rows[0]);
});
$("order").addEventListener("change", () => list());
$("find").addEventListener("input", () => { clearTimeout(list.timer); list.timer = setTimeout(list, 250); });
$("more").addEventListener("click", () => list(true));
$("table").addEventListener("submit", answerTable);
begin().catch((error) => { if ($("login").hidden) $("base").textContent = error.message; });
