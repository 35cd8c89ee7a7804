// What is asked for: the models that are ticked, and the language.

import { describe } from "./compare.js";
import { byId, element, fillSelect } from "./dom.js";
import { capital } from "./format.js";

// Shows the models of the server; the first is ticked.
export function showModels(models) {
  const choices = models.map((model, i) =>
    element(
      "label",
      { class: "choice" },
      element("input", { type: "checkbox", name: "model", value: model.name, checked: i === 0 }),
      element("span", {}, model.name, " ", element("small", {}, describe(model))),
    ),
  );
  byId("models").replaceChildren(element("legend", {}, models.length > 1 ? "Models: tick several to compare them" : "Model"), ...choices);
  const languages = Object.assign({}, ...models.map((model) => model.languages), { en: "english" });
  const sorted = Object.entries(languages).map(([code, name]) => [code, capital(name)]).sort((a, b) => a[1].localeCompare(b[1]));
  fillSelect(byId("language"), [["", "Found by the model"], ...sorted]);
}

export const chosenModels = () => [...document.querySelectorAll("#models input:checked")].map((input) => input.value);
export const chosenLanguage = () => byId("language").value;
