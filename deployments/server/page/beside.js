// Two models answer one message. Which is which is drawn for each message, and told once the person has chosen.

import { answer, button, endingWords, made } from "./api.js";
import { keep } from "./feedback.js";

const CHOICES = [["a", "A is better"], ["b", "B is better"], ["tie", "Both are good"], ["both_bad", "Both are bad"]];

function drawn() {
  const models = [document.body.dataset.model, document.body.dataset.beside];
  return crypto.getRandomValues(new Uint8Array(1))[0] % 2 ? models : models.reverse();
}

// Put both answers into `item`, then ask which is better. Throws what the first of them that fails throws.
export async function compare(item, content, signal) {
  const pair = made("div", "", { className: "pair" });
  const sides = ["Answer A", "Answer B"].map((name) => {
    const section = made("section");
    section.setAttribute("aria-label", name);
    section.append(made("b", name), made("p"));
    return section;
  });
  pair.append(...sides);
  item.append(pair);
  const turns = [{ role: "user", content }];
  const replies = await Promise.all(
    drawn().map((model, place) =>
      answer(model, turns, signal, (text) => {
        sides[place].querySelector("p").textContent = text;
      }),
    ),
  );
  replies.forEach((said, place) => {
    if (endingWords(said)) sides[place].append(made("small", endingWords(said)));
  });
  offerVote(item, sides, replies);
}

function offerVote(item, sides, replies) {
  const group = made("div", "", { className: "feedback" });
  const status = made("p");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Which answer is better?");
  status.setAttribute("role", "status");
  const ids = replies.map((reply) => reply.id);
  const buttons = CHOICES.map(([choice, words]) =>
    button(words, async () => {
      for (const one of buttons) one.disabled = true;
      const kept = await keep("v1/votes", { ids, choice }, status);
      if (!kept && status.textContent !== "Nothing was kept.") { // it can be sent again
        for (const one of buttons) one.disabled = false;
        return;
      }
      for (const one of buttons) one.remove();
      sides.forEach((side, place) => {
        side.querySelector("b").textContent = `${"AB"[place]}: ${replies[place].model}`;
      });
      status.textContent += ` A was ${replies[0].model}, B was ${replies[1].model}.`;
    }),
  );
  group.append(...buttons, status);
  item.append(group);
}
