// The measurements that were stored by depth: charts of training and gradient, the same as tables, and a sentence.
"use strict";

/**
 * One network's training and gradient; null stands for what was not finite. `output` has the L2 norm of the loss's
 * gradient at the output of each block, from the first to the last.
 * @typedef {{
 *   epochs: Record<"train_loss" | "train_accuracy" | "test_loss" | "test_accuracy", (number | null)[]>,
 *   gradient: {output: (number | null)[], weights: (number | null)[]},
 * }} Measured
 * @typedef {Record<string, Record<string, Measured>>} ByKindAndDepth
 * @typedef {{depths: number[], training: {samples: number, epochs: number}, networks: ByKindAndDepth}} Depths
 * @typedef {{name: string, kind: "plain" | "resnet", values: (number | null)[]}} Line
 */

class Chart {
  /**
   * @param {HTMLElement} place
   * @param {string} xLabel
   * @param {import("uplot").Scale} yScale
   * @param {import("uplot").Axis} [yAxis]
   */
  constructor(place, xLabel, yScale, yAxis = {}) {
    this.place = place;
    this.xLabel = xLabel;
    this.yScale = yScale;
    this.yAxis = yAxis;
    /** @type {Line[]} */
    this.lines = [];
    /** @type {import("uplot") | undefined} */
    this.plot = undefined;
    new ResizeObserver(() => this.draw()).observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** @param {Line[]} [lines] those of before, if none are given */
  draw(lines = this.lines) {
    this.lines = lines;
    const style = getComputedStyle(this.place);
    const [ink, grid] = ["--soft", "--line"].map((name) => style.getPropertyValue(name));
    const axis = {
      stroke: ink,
      grid: { stroke: grid, width: 1 },
      ticks: { stroke: grid, width: 1 },
      font: "13px system-ui",
    };
    const length = Math.max(...lines.map((line) => line.values.length), 2);
    this.plot?.destroy();
    this.plot = new uPlot(
      {
        width: this.place.clientWidth,
        height: 260,
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false, range: [1, length] }, y: this.yScale },
        axes: [
          { ...axis, label: this.xLabel, labelSize: 22, size: 34, incrs: [1, 2, 5, 10, 20] },
          { ...axis, size: 52, ...this.yAxis },
        ],
        series: [
          {},
          ...lines.map(({ kind }) => ({
            stroke: style.getPropertyValue(`--${kind}`),
            width: 2.5,
            dash: kind === "plain" ? [7, 4] : undefined,
            points: { show: true, size: 6, fill: style.getPropertyValue(`--${kind}`) },
          })),
        ],
      },
      [
        Array.from({ length }, (_, i) => i + 1),
        ...lines.map(({ values }) => Array.from({ length }, (_, i) => values[i] ?? null)),
      ],
      this.place,
    );
  }
}

/**
 * An axis with powers of ten, seven at most, where uPlot would draw each step between them.
 * @type {import("uplot").Axis}
 */
const DECADES = {
  splits: (_chart, _axis, min, max) => {
    const [low, high] = [Math.ceil(Math.log10(min) - 1e-9), Math.floor(Math.log10(max) + 1e-9)];
    const step = Math.ceil((high - low + 1) / 7);
    return Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, i) => 10 ** (low + i * step));
  },
  filter: (_chart, splits) => splits,
  values: (_chart, splits) => splits.map(writePower),
};

/**
 * @param {number} value
 * @returns {string} the nearest power of ten, such as "10⁻³"
 */
function writePower(value) {
  const exponent = `${Math.round(Math.log10(value))}`;
  return `10${[...exponent].map((sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(sign)] ?? "⁻").join("")}`;
}

class DepthSection {
  /** @param {Depths} stored */
  constructor(stored) {
    this.stored = stored;
    this.training = new Chart(find("#training", HTMLElement), "epoch", { range: [0, 100] });
    this.gradient = new Chart(
      find("#gradient", HTMLElement),
      "block (1 is nearest the picture)",
      { distr: 3 },
      DECADES,
    );
    this.slider = find("#depth", HTMLInputElement);
    say("samples", stored.training.samples.toLocaleString("en"));
    say("epochs", stored.training.epochs);
    say("trainings", Object.values(stored.networks).flatMap(Object.values).length);
    this.slider.max = `${stored.depths.length - 1}`;
    this.slider.value = this.slider.max;
    for (const id of ["depth", "norm", "show-resnet", "show-plain"]) {
      find(`#${id}`, HTMLInputElement).addEventListener("input", () => this.show());
    }
    this.show();
  }

  show() {
    const depth = this.stored.depths[this.slider.valueAsNumber];
    const normed = find("#norm", HTMLInputElement).checked;
    find("#depth-now", HTMLOutputElement).value = `${depth}`;
    this.slider.setAttribute("aria-valuetext", `${depth} layers`);
    const shown = KINDS.filter((kind) => find(`#show-${kind}`, HTMLInputElement).checked);
    const networks = shown.map((kind) => {
      const key = `${kind === "plain" ? "plain" : "residual"}, ${normed ? "batch-norm" : "no norm"}`;
      return { kind, name: kind === "plain" ? "plain network" : "ResNet", measured: this.stored.networks[key][depth] };
    });
    const [accuracies, gradients] = [
      networks.map(({ kind, name, measured }) => {
        return {
          kind,
          name,
          values: measured.epochs.train_accuracy.map((share) => (share === null ? null : 100 * share)),
        };
      }),
      // 0 is not on a log scale: a gradient that has vanished ends its line
      networks.map(({ kind, name, measured }) => ({
        kind,
        name,
        values: measured.gradient.output.map((norm) => norm || null),
      })),
    ];
    this.training.draw(accuracies);
    this.gradient.draw(gradients);
    const start = `${depth} layers, ${normed ? "with" : "without"} batch-norm. `;
    find("#depth-says", HTMLElement).textContent =
      start + networks.map(({ name, measured }) => this.#describe(name, measured)).join(" ");
    find("#depth-tables", HTMLElement).replaceChildren(
      makeLineTable("Training accuracy in %", "epoch", accuracies, (value) => value.toFixed(1)),
      makeLineTable("Size of the gradient", "block", gradients, (value) => value.toPrecision(3)),
    );
  }

  /**
   * @param {string} name
   * @param {Measured} measured
   * @returns {string} a sentence
   */
  #describe(name, { epochs, gradient }) {
    const accuracy = epochs.train_accuracy.at(-1);
    const broke = epochs.train_loss.length < this.stored.training.epochs || epochs.train_loss.includes(null);
    const end = broke
      ? "could not be trained: its numbers grew too large for a float"
      : `ends at ${percent(accuracy ?? 0)} on the training pictures`;
    return `The ${name} ${end}; ${describeGradient(gradient.output[0], gradient.output.at(-1))}.`;
  }
}

/**
 * @param {number | null} first norm at the first block
 * @param {number | null | undefined} last norm at the last block
 * @returns {string} what happens to the gradient on its way
 */
function describeGradient(first, last) {
  if (!last || first === null) return "its gradient gets too large for a float on its way back";
  if (first === 0) return "its gradient vanishes on its way back";
  const ratio = first / last;
  const times = (/** @type {number} */ factor) => {
    return factor < 1e4 ? Number(factor.toPrecision(2)).toLocaleString("en") : writePower(factor);
  };
  if (ratio >= 1) return `from its last block to its first its gradient becomes ${times(ratio)} times larger`;
  return `from its last block to its first its gradient becomes ${times(1 / ratio)} times smaller`;
}

/**
 * @param {string} caption
 * @param {string} x what the rows are numbered by
 * @param {Line[]} lines
 * @param {(value: number) => string} format
 */
function makeLineTable(caption, x, lines, format) {
  const length = Math.max(0, ...lines.map((line) => line.values.length));
  const rows = Array.from({ length }, (_, i) => {
    const values = lines.map((line) => line.values[i] ?? undefined);
    return [`${i + 1}`, ...values.map((value) => (value === undefined ? "none" : format(value)))];
  });
  return makeTable(caption, [x, ...lines.map((line) => line.name)], rows);
}
