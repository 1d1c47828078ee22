// Small helpers that the other scripts share.
"use strict";

/**
 * A part of the page.
 * @template {Element} T
 * @param {string} selector
 * @param {new () => T} type
 * @param {ParentNode} parent
 * @returns {T}
 */
function find(selector, type, parent = document) {
  const found = parent.querySelector(selector);
  if (!(found instanceof type)) throw new Error(`${selector}: no ${type.name}`);
  return found;
}

/**
 * A new element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Partial<HTMLElementTagNameMap[K]>} properties
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/**
 * Put a text wherever the page asks for it.
 * @param {string} what
 * @param {string | number} text
 */
function say(what, text) {
  for (const place of document.querySelectorAll(`[data-say=${what}]`)) place.textContent = `${text}`;
}

/**
 * Say in a line what is wrong, or nothing.
 * @param {string} line its selector
 * @param {unknown} [error]
 */
function complain(line, error) {
  const place = find(line, HTMLElement);
  place.textContent = error instanceof Error ? error.message : `${error ?? ""}`;
  place.hidden = error === undefined;
}

/**
 * @param {number} share
 * @param {number} digits
 * @returns {string} such as "91.2 %"
 */
function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)}\u00a0%`; // a space that does not break
}

/**
 * @param {string} caption
 * @param {string[]} head
 * @param {string[][]} rows the first cell of each is its heading
 */
function makeTable(caption, head, rows) {
  const body = rows.map(([first, ...rest]) => {
    return make("tr", {}, make("th", { scope: "row" }, first), ...rest.map((text) => make("td", {}, text)));
  });
  const heading = make("tr", {}, ...head.map((text) => (text ? make("th", { scope: "col" }, text) : make("td"))));
  const parts = [make("caption", {}, caption), make("thead", {}, heading), make("tbody", {}, ...body)];
  return make("table", { className: "figures" }, ...parts);
}
