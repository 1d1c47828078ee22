// The page: what is chosen, and what follows from it.
"use strict";

/** @type {("resnet" | "plain")[]} */
const KINDS = ["resnet", "plain"];
const HARDLY = 0.1; // a fall of accuracy that is less is hardly minded
const GUESSES = 2; // an accuracy below so many times that of guessing is hardly better

/**
 * What networks.json says.
 * @typedef {{
 *   name: string, kind: "plain" | "resnet", layers: number, blocks: string[], parameters: number,
 *   float: {bytes: number}, int8: {bytes: number},
 * }} Described
 * @typedef {{classes: string[], licence: string, networks: Described[]}} Description
 */

class Explorer {
  depth = 20;
  /** @type {ReadonlySet<number>} */
  away = new Set();
  /** @type {Picture | undefined} */
  picture;
  turn = new AbortController();
  strength = find("#strength", HTMLInputElement);
  int8 = find("#int8", HTMLInputElement);
  chain = find("#chain", HTMLElement);
  restore = find("#restore", HTMLButtonElement);
  /** @type {Map<string, Promise<Network>>} */
  networks = new Map();
  /** @type {Map<string, Score>} by network and gates */
  scores = new Map();

  /**
   * @param {Description} description
   * @param {Uint8Array} stored the pictures (N, 28, 28), then their labels (N,)
   */
  constructor(description, stored) {
    const count = stored.length / (PIXELS + 1);
    this.description = description;
    this.pictures = Float32Array.from(stored.subarray(0, count * PIXELS));
    this.labels = stored.subarray(count * PIXELS);
    const { classes } = description;
    this.chance = 1 / classes.length;
    this.twins = KINDS.map((kind) => new Twin(kind, classes));
    say("classes", classes.length);
    say("pictures", count);
    say("chance", percent(this.chance, 0));
    say("licence", description.licence);
    for (const depth of new Set(description.networks.map((network) => network.layers))) {
      const radio = make("input", { type: "radio", name: "depth", value: `${depth}`, checked: depth === this.depth });
      radio.addEventListener("input", () => this.setDepth(depth));
      find("#depths", HTMLElement).append(make("label", {}, radio, ` ${depth}`));
    }
    this.restore.addEventListener("click", () => this.setAway([]));
    this.strength.addEventListener("input", () => this.update());
    this.int8.addEventListener("input", () => {
      this.#clear();
      void this.update();
    });
    for (const guess of document.getElementsByName("guess")) guess.addEventListener("input", () => this.showVerdict());
    new Picker(classes, this.pictures, this.labels, (picture) => {
      this.picture = picture;
      void this.update();
    });
    this.setDepth(this.depth);
  }

  /** @param {number} depth */
  setDepth(depth) {
    this.depth = depth;
    this.#clear();
    const { blocks, parameters } = this.describe("resnet");
    say("parameters", parameters.toLocaleString("en"));
    say("asked", this.asked + 1);
    const buttons = blocks.map((_, i) => {
      const button = make("button", { type: "button", ariaLabel: `Take block ${i + 1} away` }, `${i + 1}`);
      button.addEventListener("click", () => {
        this.setAway(this.away.has(i) ? [...this.away].filter((block) => block !== i) : [...this.away, i]);
      });
      return button;
    });
    const stages = STAGES.slice(1).map((stage, number) => {
      const own = buttons.filter((_, i) => blocks[i].startsWith(`${stage}.`));
      const title = `Stage ${number + 1}`;
      const group = make("div", { className: "stage", role: "group", ariaLabel: title }, make("span", {}, title), ...own);
      group.style.setProperty("--blocks", `${own.length}`);
      return group;
    });
    this.chain.replaceChildren(...stages);
    this.setAway([]);
  }

  /** Show nothing of networks that are no longer chosen. */
  #clear() {
    for (const twin of this.twins) {
      twin.clear("loading …");
      twin.showAccuracy(0);
    }
  }

  /** @param {number[]} away the blocks that are taken away */
  setAway(away) {
    this.away = new Set(away.sort((a, b) => a - b));
    this.chain.querySelectorAll("button").forEach((button, i) => (button.ariaPressed = `${this.away.has(i)}`));
    this.restore.disabled = !away.length;
    void this.update();
  }

  /** The block that the guess is about, in the middle. */
  get asked() {
    return Math.floor(this.describe("resnet").blocks.length / 2);
  }

  /** @param {"plain" | "resnet"} kind */
  describe(kind) {
    const found = this.description.networks.find((network) => network.kind === kind && network.layers === this.depth);
    if (!found) throw new Error(`networks.json has no ${kind} network of ${this.depth} layers.`);
    return found;
  }

  /** @param {"plain" | "resnet"} kind */
  nameOf(kind) {
    return `${kind === "plain" ? "Plain" : "ResNet"}-${this.depth}`;
  }

  /**
   * The name of a network's file.
   * @param {"plain" | "resnet"} kind
   */
  fileOf(kind, int8 = this.int8.checked) {
    return `${this.describe(kind).name}${int8 ? "_int8" : ""}`;
  }

  /** @param {string} file */
  load(file) {
    const loading = this.networks.get(file) ?? Network.load(file);
    this.networks.set(file, loading);
    return loading;
  }

  /** Follow what is chosen: the answers at once, then the accuracies, until the next change. */
  async update() {
    this.turn.abort();
    this.turn = new AbortController();
    const { signal } = this.turn;
    find("#strength-now", HTMLOutputElement).value = this.strength.value;
    KINDS.forEach((kind, i) => {
      this.twins[i].setName(`${this.nameOf(kind)}${this.int8.checked ? ", INT8" : ""}`);
      this.twins[i].showAccuracy(1);
    });
    this.showVerdict();
    try {
      await this.#answer(signal);
      if (signal.aborted) return;
      complain("#trouble");
      await this.#count(signal);
      await this.#compare(signal);
    } catch (error) {
      if (signal.aborted) return;
      for (const twin of this.twins) twin.clear("no network");
      complain("#trouble", error);
    }
  }

  /** @param {AbortSignal} signal */
  async #answer(signal) {
    const networks = await Promise.all(KINDS.map((kind) => this.load(this.fileOf(kind))));
    const spoken = [];
    for (const [i, kind] of KINDS.entries()) {
      if (signal.aborted) return;
      if (!this.picture) {
        this.twins[i].clear("no picture");
        continue;
      }
      const seen = await networks[i].look(this.picture.pixels, this.gatesOf(kind));
      if (signal.aborted) return;
      this.twins[i].showMaps(seen.features);
      spoken.push(`${this.nameOf(kind)}: ${this.twins[i].showAnswer(seen.probabilities, this.picture.label)}.`);
    }
    find("#spoken", HTMLElement).textContent = spoken.join(" ");
  }

  /** @param {"plain" | "resnet"} kind */
  gatesOf(kind, away = this.away, strength = this.strength.valueAsNumber) {
    return setGates(kind, this.describe(kind).blocks.length, away, strength);
  }

  /**
   * Count what the networks get right, with all blocks and as they are now.
   * @param {AbortSignal} signal
   */
  async #count(signal) {
    for (const whole of [true, false]) {
      const counts = KINDS.map(async (kind, i) => {
        const gates = whole ? this.gatesOf(kind, new Set(), 1) : this.gatesOf(kind);
        const show = (/** @type {Score} */ score) => this.twins[i].showAccuracy(whole ? 0 : 1, score);
        const score = await this.score(this.fileOf(kind), gates, signal, show);
        if (score && !signal.aborted) show(score);
      });
      await Promise.all(counts);
    }
    if (!signal.aborted) this.showVerdict();
  }

  /**
   * The score of a network, counted once for the same gates.
   * @param {string} file
   * @param {Gates} gates
   * @param {AbortSignal} signal
   * @param {(score: Score) => void} [show]
   */
  async score(file, gates, signal, show) {
    const key = keyOf(file, gates);
    const known = this.scores.get(key);
    if (known) return known;
    const network = await this.load(file);
    const score = await network.score(this.pictures, this.labels, gates, signal, show);
    if (score) this.scores.set(key, score);
    return score;
  }

  /** Say what taking blocks away has done, and whether that was the guess. */
  showVerdict() {
    const place = find("#verdict", HTMLElement);
    const strength = this.strength.valueAsNumber;
    if (!this.away.size && strength === 1) {
      place.textContent = "All blocks are in place.";
      return;
    }
    const counts = KINDS.map((kind) => {
      const [before, now] = [this.gatesOf(kind, new Set(), 1), this.gatesOf(kind)].map((gates) => {
        const score = this.scores.get(keyOf(this.fileOf(kind), gates));
        return score && score.right / score.done;
      });
      return before !== undefined && now !== undefined && { kind, before, now };
    }).filter((count) => count !== false);
    if (counts.length < KINDS.length) {
      place.textContent = "Counting …";
      return;
    }
    const blocks = this.away.size && `without block${this.away.size > 1 ? "s" : ""} ${[...this.away].map((i) => i + 1).join(", ")}`;
    const causes = [blocks, strength < 1 && `with shortcuts at ${strength}`].filter(Boolean).join(" and ");
    const effects = counts.map(({ kind, before, now }) => `${this.nameOf(kind)} from ${percent(before)} to ${percent(now)}`);
    place.textContent = `Accuracy ${causes}: ${effects.join(", ")}.`;
    const guess = document.querySelector("[name=guess]:checked");
    if (guess && this.away.size === 1 && this.away.has(this.asked) && strength === 1) {
      const right = find("input", HTMLInputElement, guess.parentElement ?? document).value === this.#outcome(counts);
      place.append(" ", make("strong", {}, right ? "As you guessed." : "You guessed otherwise."));
    }
  }

  /**
   * @param {{kind: "plain" | "resnet", before: number, now: number}[]} counts
   * @returns {string} the value of the guess that was right
   */
  #outcome(counts) {
    const falls = counts.map(({ before, now }) => before - now);
    if (Math.max(...falls) < HARDLY) return "neither";
    if (counts.every(({ now }) => now < GUESSES * this.chance)) return "both";
    return counts[largest(falls)].kind;
  }

  /**
   * With INT8 on, set the float and INT8 files of both networks side by side, all blocks in place.
   * @param {AbortSignal} signal
   */
  async #compare(signal) {
    const place = find("#int8-tables", HTMLElement);
    if (signal.aborted || place.dataset.depth === `${this.int8.checked && this.depth}`) return;
    place.dataset.depth = "";
    place.textContent = this.int8.checked ? "Counting …" : "";
    const tables = [];
    for (const kind of this.int8.checked ? KINDS : []) {
      const columns = [];
      for (const int8 of [false, true]) {
        const score = await this.#measure(this.fileOf(kind, int8), this.gatesOf(kind, new Set(), 1), signal);
        if (!score) return;
        columns.push({ ...score, bytes: this.describe(kind)[int8 ? "int8" : "float"].bytes });
      }
      tables.push(makeComparison(this.nameOf(kind), columns));
    }
    place.replaceChildren(...tables);
    place.dataset.depth = `${this.int8.checked && this.depth}`;
  }

  /**
   * A score and its shortest time of two counts or more: the browser compiles what runs often, so the first is slow.
   * @param {string} file
   * @param {Gates} gates
   * @param {AbortSignal} signal
   */
  async #measure(file, gates, signal) {
    const score = await this.score(file, gates, signal);
    const network = await this.load(file);
    const again = await network.score(this.pictures, this.labels, gates, signal);
    if (!score || !again) return undefined;
    const milliseconds = Math.min(score.milliseconds, again.milliseconds);
    this.scores.set(keyOf(file, gates), { ...score, milliseconds });
    return { ...score, milliseconds };
  }
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

/**
 * @param {string} file
 * @param {Gates} gates
 */
function keyOf(file, gates) {
  return `${file} ${gates.branch} ${gates.shortcut}`;
}

async function start() {
  startRuntime().catch(() => undefined); // ahead of the network that waits for it, and says what was wrong
  try {
    const files = await Promise.all([readJson("data/networks.json"), readFile("data/pictures.bin")]);
    new Explorer(...files);
  } catch (error) {
    complain("#trouble", error);
  }
  try {
    const [stored] = await Promise.all([readJson("data/depths.json"), loadScript("libraries/uPlot.iife.min.js")]);
    new DepthSection(stored);
  } catch (error) {
    complain("#depth-trouble", error);
  }
}

void start();
