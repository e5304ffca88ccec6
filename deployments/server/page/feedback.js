// What a person says of an answer: a thumb, or what it should have said. Nothing is sent before the person agrees, which
// is asked once; that it was is forgotten with the page.

import { button, element, made, tell } from "./api.js";

let agreed = false;

function settle() {
  element("kept").hidden = !agreed;
}

// Whether the person agrees that what follows is kept.
export function consent() {
  if (agreed) return Promise.resolve(true);
  const dialog = element("consent");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      agreed = dialog.returnValue === "yes";
      settle();
      resolve(agreed);
    }, { once: true });
  });
}

// Send it if the person agrees; says in `status` what became of it, and returns whether it is kept.
export async function keep(path, body, status) {
  if (!(await consent())) {
    status.textContent = "Nothing was kept.";
    return false;
  }
  try {
    await tell(path, body);
  } catch (error) {
    status.textContent = `Not kept: ${error.message}`;
    return false;
  }
  status.textContent = "Kept. Thank you.";
  return true;
}

// Buttons below an answer, whose reply has this id.
export function offerFeedback(item, id, text) {
  const group = made("div", "", { className: "feedback" });
  const status = made("p");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "What you say of this answer");
  status.setAttribute("role", "status");

  const thumbs = [["up", "Good"], ["down", "Bad"]].map(([rating, words]) => {
    const thumb = button(words, async () => {
      if (!(await keep("v1/feedback", { id, rating }, status))) return;
      for (const one of thumbs) one.setAttribute("aria-pressed", String(one === thumb));
    });
    thumb.className = rating;
    thumb.prepend(element("thumb").content.cloneNode(true));
    thumb.setAttribute("aria-pressed", "false");
    return thumb;
  });

  const label = made("label", "What should it have said?");
  const field = made("textarea", "", { rows: 3, value: text });
  const send = button("Send correction", async () => {
    const correction = field.value.trim();
    if (!correction || correction === text.trim()) {
      status.textContent = "Write what it should have said.";
      field.focus();
    } else if (await keep("v1/feedback", { id, correction }, status)) {
      close();
    }
  });
  const cancel = button("Cancel", () => close());
  const correct = button("Correct it", () => {
    for (const one of [label, send, cancel]) one.hidden = false;
    correct.hidden = true;
    send.scrollIntoView({ block: "nearest" });
    field.focus();
  });
  function close() {
    for (const one of [label, send, cancel]) one.hidden = true;
    correct.hidden = false;
    correct.focus();
  }
  label.append(field);
  for (const one of [label, send, cancel]) one.hidden = true;
  group.append(...thumbs, correct, label, send, cancel, status);
  item.append(group);
}

element("agree").addEventListener("click", () => element("consent").close("yes"));
element("decline").addEventListener("click", () => element("consent").close("no"));
element("withdraw").addEventListener("click", () => {
  agreed = false;
  settle();
  element("status").textContent = "From now on nothing is kept.";
  element("text").focus();
});
