// A conversation with the model of this server. What is said is put into the page as text, never as HTML, and is kept
// nowhere but here.
"use strict";

const form = document.body.dataset.form;
const element = (id) => document.getElementById(id);
const value = (id) => element(id)?.value.trim() ?? "";
let turns = []; // {role, content}, as the API takes them
let asking = null; // what ends the answer that is under way

function show(role, content) {
  const item = document.createElement("li");
  const who = document.createElement("b");
  const text = document.createElement("p");
  item.className = role;
  who.textContent = { user: "You", assistant: "Model", wrong: "Not answered" }[role];
  text.textContent = content;
  item.append(who, text);
  element("log").append(item);
  item.scrollIntoView({ block: "end" });
  return item;
}

function offerEdit(item, place) {
  const edit = document.createElement("button");
  edit.type = "button";
  edit.textContent = "Edit";
  edit.addEventListener("click", () => {
    if (asking) return;
    element("text").value = turns[place].content;
    turns = turns.slice(0, place);
    while (item.nextSibling) item.nextSibling.remove();
    item.remove();
    settle();
    element("text").focus();
  });
  item.append(edit);
}

function settle() {
  element("send").hidden = asking !== null;
  element("stop").hidden = asking === null;
  element("again").hidden = asking !== null || turns.length === 0;
  element("clear").hidden = asking !== null || turns.length === 0;
}

function request() {
  const settings = { model: "default", stream: true, stream_options: { include_usage: true } };
  const temperature = Number(value("temperature"));
  if (temperature > 0) settings.temperature = temperature;
  if (value("most")) settings.max_tokens = Number(value("most"));
  if (form === "plain") {
    if (!settings.max_tokens) settings.max_tokens = 128;
    return ["v1/completions", { ...settings, prompt: turns[turns.length - 1].content }];
  }
  const said = form === "chat" ? turns : turns.slice(-1);
  const system = value("system") ? [{ role: "system", content: value("system") }] : [];
  return ["v1/chat/completions", { ...settings, messages: [...system, ...said] }];
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value: piece, done } = await reader.read();
    if (done) return;
    held += piece;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
    }
  }
}

async function answer() {
  const [path, body] = request();
  const headers = { "content-type": "application/json" };
  if (value("key")) headers.authorization = `Bearer ${value("key")}`;
  asking = new AbortController();
  settle();
  element("status").textContent = "The model answers.";
  let item = null;
  let text = "";
  let ending = "";
  try {
    const reply = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal: asking.signal });
    if (!reply.ok) throw new Error((await reply.json()).error.message);
    item = show("assistant", "");
    for await (const event of events(reply.body)) {
      if (event.error) throw new Error(event.error.message);
      for (const choice of event.choices) {
        text += choice.delta?.content ?? choice.text ?? "";
        ending = choice.finish_reason ?? ending;
      }
      item.querySelector("p").textContent = text;
      element("log").lastChild.scrollIntoView({ block: "end" });
    }
    element("status").textContent = ending === "length" ? "The answer is as long as it may be." : "";
  } catch (error) {
    if (asking.signal.aborted) {
      element("status").textContent = "Stopped.";
    } else {
      show("wrong", error.message);
      element("status").textContent = "";
    }
  }
  if (item) turns.push({ role: "assistant", content: text });
  asking = null;
  settle();
  element("text").focus();
}

function send() {
  const content = element("text").value.trim();
  if (!content || asking) return;
  turns.push({ role: "user", content });
  offerEdit(show("user", content), turns.length - 1);
  element("text").value = "";
  answer();
}

element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
element("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
element("stop").addEventListener("click", () => asking?.abort());
element("again").addEventListener("click", () => {
  if (asking || turns.length === 0) return;
  if (turns[turns.length - 1].role === "assistant") {
    turns.pop();
    element("log").lastChild.remove();
  }
  answer();
});
element("example").addEventListener("click", () => {
  element("text").value = element("text").placeholder;
  element("text").focus();
});
element("clear").addEventListener("click", () => {
  turns = [];
  element("log").replaceChildren();
  element("status").textContent = "";
  settle();
  element("text").focus();
});
settle();
