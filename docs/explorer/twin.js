// What the page shows of one network: its answer as bars, its accuracy, its feature maps.
"use strict";

const CELL = 28; // pixels of a drawn feature map: a multiple of the maps' 14, 7 and 4
const COLUMNS = 8;

/**
 * @param {HTMLElement} row of a table of bars
 * @param {number} share
 * @param {string} text
 */
function setBar(row, share, text) {
  find(".bar", HTMLElement, row).style.width = `${100 * share}%`;
  find(".number", HTMLElement, row).textContent = text;
}

class Twin {
  /**
   * @param {"plain" | "resnet"} kind
   * @param {string[]} classes
   */
  constructor(kind, classes) {
    this.kind = kind;
    this.classes = classes;
    this.answer = this.#fill("answer", "answers");
    this.inside = this.#fill("inside", "maps");
    const body = find(".bars:not(.accuracy) tbody", HTMLElement, this.answer);
    this.rows = classes.map((name) => {
      const bar = make("td", {}, make("span", { className: "bar" }));
      const row = make("tr", {}, make("th", { scope: "row" }, name), bar, make("td", { className: "number" }));
      body.append(row);
      return row;
    });
    this.canvases = STAGES.map((_, i) => {
      const canvas = make("canvas");
      canvas.setAttribute("role", "img");
      const figure = make("figure", {}, make("figcaption"), canvas);
      this.inside.append(figure);
      return { title: i ? `Stage ${i}` : "First layer", canvas, caption: find("figcaption", HTMLElement, figure) };
    });
    this.accuracy = [...this.answer.querySelectorAll(".accuracy tr")].map((row) => /** @type {HTMLElement} */ (row));
    for (const row of this.accuracy)
      find("td", HTMLElement, row).style.setProperty("--chance", `${100 / classes.length}%`);
  }

  /**
   * @param {string} template
   * @param {string} parent
   */
  #fill(template, parent) {
    const copy = find(`#${template}`, HTMLTemplateElement).content.cloneNode(true);
    const article = find("article", HTMLElement, /** @type {DocumentFragment} */ (copy));
    article.classList.add(this.kind);
    find(`#${parent}`, HTMLElement).append(article);
    return article;
  }

  /** @param {string} name such as "ResNet-20" */
  setName(name) {
    find("h4", HTMLElement, this.answer).textContent = name;
    find("table", HTMLElement, this.answer).setAttribute("aria-label", `Probabilities, ${name}`);
    find("h3", HTMLElement, this.inside).textContent = name;
  }

  /**
   * @param {number[]} probabilities
   * @param {number | undefined} label the right class, if it is known
   * @returns {string} what the network says, in a few words
   */
  showAnswer(probabilities, label) {
    const best = largest(probabilities);
    this.rows.forEach((row, i) => {
      setBar(row, probabilities[i], percent(probabilities[i], 0));
      row.classList.toggle("best", i === best);
      row.classList.toggle("right", i === label);
    });
    const judged = label === undefined ? "" : label === best ? ": right" : ": wrong";
    const text = `${this.classes[best]}, ${percent(probabilities[best], 0)}${judged}`;
    const says = find(".says", HTMLElement, this.answer);
    says.textContent = text;
    says.classList.toggle("wrong", label !== undefined && label !== best);
    return text;
  }

  /**
   * Show no answer.
   * @param {string} reason
   */
  clear(reason) {
    for (const row of this.rows) {
      setBar(row, 0, "");
      row.classList.remove("best", "right");
    }
    const says = find(".says", HTMLElement, this.answer);
    says.textContent = reason;
    says.classList.remove("wrong");
    for (const { canvas, caption } of this.canvases) {
      canvas.width = canvas.height = 0;
      caption.textContent = "";
    }
  }

  /**
   * @param {0 | 1} row with all blocks, or now
   * @param {Score} [score] so far; none where the count has not begun
   */
  showAccuracy(row, score) {
    const share = score && score.right / score.done;
    setBar(this.accuracy[row], share ?? 0, share === undefined ? "…" : percent(share));
    this.accuracy[row].classList.toggle("counting", score?.done !== score?.classes.length);
  }

  /** @param {Features[]} features of each stage */
  showMaps(features) {
    features.forEach((stage, i) => {
      const { title, canvas, caption } = this.canvases[i];
      const { dark, peak } = drawMaps(canvas, stage);
      caption.textContent = `${title}: ${stage.maps} maps of ${stage.side} × ${stage.side}`;
      const brightest = `largest value ${peak.toPrecision(3)}`;
      caption.append(make("span", {}, dark ? `${brightest}, ${dark} all black` : brightest));
      canvas.setAttribute("aria-label", `${title}: ${brightest}; ${dark} of ${stage.maps} maps are 0 everywhere`);
    });
  }
}

/**
 * Draw the feature maps of a stage side by side, the largest value of all in white.
 * @param {HTMLCanvasElement} canvas
 * @param {Features} features
 * @returns {{dark: number, peak: number}} how many maps are 0 everywhere, and the largest value
 */
function drawMaps(canvas, { data, maps, side }) {
  const step = CELL + 2;
  const scale = CELL / side;
  canvas.width = COLUMNS * step - 2;
  canvas.height = Math.ceil(maps / COLUMNS) * step - 2;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const peak = data.reduce((a, b) => Math.max(a, b), 0);
  let dark = 0;
  for (let map = 0; map < maps; map++) {
    const values = data.subarray(map * side * side, (map + 1) * side * side);
    if (!values.some((value) => value > 0)) dark++;
    const image = context.createImageData(CELL, CELL);
    for (let i = 0; i < CELL * CELL; i++) {
      const [y, x] = [Math.floor(i / CELL / scale), Math.floor((i % CELL) / scale)];
      const grey = peak ? 255 * Math.sqrt(values[y * side + x] / peak) : 0; // a root: small values show too
      image.data.fill(grey, 4 * i, 4 * i + 3);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, (map % COLUMNS) * step, Math.floor(map / COLUMNS) * step);
  }
  return { dark, peak };
}
