// Makes DOM elements from plain values: text never becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id, which index.html promises. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no element #${id}`);
  return found;
}

/** An HTML element; `values` are attributes, but `text` and `on` (listeners by event). */
export function element(name, values = {}, ...children) {
  return filled(document.createElement(name), values, children);
}

/** An SVG element, likewise. */
export function drawing(name, values = {}, ...children) {
  return filled(document.createElementNS(SVG, name), values, children);
}

/** The icon of that name, for the inside of a button. */
export function icon(name) {
  return drawing("svg", { class: "icon", "aria-hidden": "true" }, drawing("use", { href: `#icon-${name}` }));
}

function filled(made, values, children) {
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "on") for (const [event, call] of Object.entries(value)) made.addEventListener(event, call);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
