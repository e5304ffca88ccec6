// What the page asks of its server, in the form of OpenAI's API.

export const element = (id) => document.getElementById(id);
export const value = (id) => element(id)?.value.trim() ?? "";
export const form = document.body.dataset.form;

export function made(tag, text = "", properties = {}) {
  const one = Object.assign(document.createElement(tag), properties);
  one.textContent = text; // never as HTML
  return one;
}

export function button(text, act) {
  const one = made("button", text, { type: "button" });
  one.addEventListener("click", act);
  return one;
}

async function post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  if (value("key")) headers.authorization = `Bearer ${value("key")}`;
  const reply = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (reply.ok) return reply;
  const said = await reply.json().catch(() => null); // what stands between may answer with a page
  throw Object.assign(new Error(said?.error?.message ?? `the server answered ${reply.status}`), { code: said?.error?.code });
}

// What a person is told where an answer did not end by itself.
const ENDINGS = {
  length: "The answer is as long as it may be.",
  content_filter: "The answer ends here: this server does not pass on what the model would have said next.",
};
export const endingWords = (said) => ENDINGS[said.ending] ?? "";

// What was said of an answer, or a vote.
export async function tell(path, body) {
  await post(path, { ...body, consent: true });
}

function request(model, turns) {
  const settings = { model, stream: true, stream_options: { include_usage: true } };
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

// The answer of a model, of which `grow` gets the text so far whenever there is more: {id, model, text, ending}.
export async function answer(model, turns, signal, grow) {
  const [path, body] = request(model, turns);
  const reply = await post(path, body, signal);
  const said = { id: "", model: "", text: "", ending: "" };
  grow(said.text);
  for await (const event of events(reply.body)) {
    if (event.error) throw new Error(event.error.message);
    said.id = event.id;
    said.model = event.model;
    for (const choice of event.choices) {
      said.text += choice.delta?.content ?? choice.text ?? "";
      said.ending = choice.finish_reason ?? said.ending;
    }
    grow(said.text);
  }
  return said;
}
