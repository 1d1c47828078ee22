// Words and tables that set networks side by side.
"use strict";

const HARDLY = 0.1; // a fall of accuracy that is less is hardly minded
const GUESSES = 2; // an accuracy below so many times that of guessing is hardly better

/** @typedef {{kind: "plain" | "resnet", name: string, before: number, now: number}} Fall of an accuracy */

/**
 * @param {ReadonlySet<number>} away the blocks that were taken away
 * @param {number} strength of the shortcuts
 * @param {Fall[]} falls
 * @returns {string} what has changed, and what follows
 */
function describeFalls(away, strength, falls) {
  const numbers = [...away].map((block) => block + 1).join(", ");
  const causes = [];
  if (away.size) causes.push(`without block${away.size > 1 ? "s" : ""} ${numbers}`);
  if (strength < 1) causes.push(`with shortcuts at ${strength}`);
  const effects = falls.map(({ name, before, now }) => `${name} from ${percent(before)} to ${percent(now)}`);
  return `Accuracy ${causes.join(" and ")}: ${effects.join(", ")}.`;
}

/**
 * @param {Fall[]} falls
 * @param {number} chance what guessing reaches
 * @returns {string} the value of the guess that was right
 */
function findOutcome(falls, chance) {
  const sizes = falls.map(({ before, now }) => before - now);
  if (Math.max(...sizes) < HARDLY) return "neither";
  if (falls.every(({ now }) => now < GUESSES * chance)) return "both";
  return falls[largest(sizes)].kind;
}

/**
 * What INT8 changes in a network, as a table.
 * @param {string} name
 * @param {(Score & {bytes: number})[]} columns float, INT8
 */
function makeComparison(name, columns) {
  const [float, int8] = columns;
  const same = int8.classes.filter((best, i) => best === float.classes[i]).length;
  const rows = [
    ["size of the file", ...columns.map(({ bytes }) => `${Math.round(bytes / 1000)} kB`)],
    ["accuracy", ...columns.map(({ right, done }) => percent(right / done))],
    ["same answer as float", "", `${same} of ${int8.done}`],
    [`time for ${int8.done} pictures, here`, ...columns.map(({ milliseconds }) => `${Math.round(milliseconds)} ms`)],
  ];
  return makeTable(name, ["", "float", "INT8"], rows);
}
