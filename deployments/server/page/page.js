// A conversation with the model of this server. What is said is put into the page as text, never as HTML, and is kept
// nowhere but here, unless the person agrees (feedback.js).

import { answer, button, element, endingWords, made } from "./api.js";
import { compare } from "./beside.js";
import { offerFeedback } from "./feedback.js";

const WHO = { user: "You", assistant: "Model", beside: "Two models", wrong: "Not answered" };
const LONG = ". All of the conversation counts: edit an earlier message, or begin anew";
let turns = []; // {role, content}, as the API takes them
const examples = JSON.parse(document.body.dataset.examples);
let asking = null; // what ends the answer that is under way

const beside = () => document.body.dataset.mode === "beside";

function show(role, content) {
  const item = made("li", "", { className: role });
  item.append(made("b", WHO[role]));
  if (role !== "beside") item.append(made("p", content));
  element("log").append(item);
  item.scrollIntoView({ block: "end" });
  return item;
}

function offerEdit(item, place) {
  item.append(button("Edit", () => {
    if (asking) return;
    element("text").value = turns[place].content;
    turns = turns.slice(0, place);
    while (item.nextSibling) item.nextSibling.remove();
    item.remove();
    settle();
    element("text").focus();
  }));
}

function settle() {
  element("send").hidden = asking !== null;
  element("stop").hidden = asking === null;
  element("again").hidden = asking !== null || turns.length === 0;
  element("clear").hidden = asking !== null || element("log").childElementCount === 0;
}

function clear() {
  turns = [];
  element("log").replaceChildren();
  element("status").textContent = "";
  settle();
  element("text").focus();
}

// Do what asks a model, which ends by itself, by Stop or by an error that is shown.
async function whileAsking(words, act) {
  asking = new AbortController();
  settle();
  element("status").textContent = words;
  try {
    element("status").textContent = await act(asking.signal);
  } catch (error) {
    element("status").textContent = asking.signal.aborted ? "Stopped." : "";
    const advice = error.code === "context_length_exceeded" && turns.length > 1 ? LONG : "";
    if (!asking.signal.aborted) show("wrong", error.message + advice);
    asking.abort();
  }
  asking = null;
  settle();
  element("log").lastChild.scrollIntoView({ block: "end" });
  element("text").focus();
}

// The server may have another champion since the page was opened.
function modelWords(name) {
  if (!name || name === document.body.dataset.model) return "";
  document.body.dataset.model = name;
  element("model").textContent = name;
  document.title = `${name} · llmill`;
  return `Another model answers from now on: ${name}. `;
}

function reply() {
  let item = null;
  let text = "";
  return whileAsking("The model answers.", async (signal) => {
    try {
      const said = await answer("default", turns, signal, (more) => {
        text = more;
        item ??= show("assistant", "");
        item.querySelector("p").textContent = text;
        item.scrollIntoView({ block: "end" });
      });
      offerFeedback(item, said.id, text);
      return `${modelWords(said.model)}${endingWords(said)}`;
    } finally {
      if (item) turns.push({ role: "assistant", content: text });
    }
  });
}

function send() {
  const content = element("text").value.trim();
  if (!content || asking) return;
  element("text").value = "";
  if (beside()) {
    show("user", content);
    whileAsking("Two models answer.", async (signal) => {
      await compare(show("beside", ""), content, signal);
      return "Which answer is better?";
    });
    return;
  }
  turns.push({ role: "user", content });
  offerEdit(show("user", content), turns.length - 1);
  reply();
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
  if (turns[turns.length - 1].role === "assistant") turns.pop();
  while (element("log").lastChild.className !== "user") element("log").lastChild.remove();
  reply();
});
element("example").addEventListener("click", () => {
  examples.push(examples.shift()); // the next one
  element("text").value = examples.at(-1);
  element("text").focus();
});
element("clear").addEventListener("click", clear);
element("mode")?.addEventListener("click", () => {
  if (asking) return;
  document.body.dataset.mode = beside() ? "" : "beside";
  element("mode").setAttribute("aria-pressed", String(beside()));
  clear();
});
settle();
