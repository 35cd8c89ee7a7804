// Makes elements. Text is always text: nothing that the server sends is read as HTML.

export const byId = (id) => document.getElementById(id);

// Returns an element with attributes ("on…" are listeners, false and null are left out) and children.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "width") made.style.width = value; // the policy of the page forbids the attribute `style`
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Fills a <select> with [value, text] pairs, and keeps its choice where it is still among them.
export function fillSelect(select, pairs) {
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  if (pairs.some(([value]) => value === before)) select.value = before;
}

// Shows a sentence in an element, and hides the element where there is none.
export function say(target, sentence) {
  target.textContent = sentence;
  target.hidden = !sentence;
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
