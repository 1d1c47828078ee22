// The page: what is chosen, and what follows from it.
"use strict";

/** @type {("resnet" | "plain")[]} */
const KINDS = ["resnet", "plain"];
/** @type {ReadonlySet<number>} */
const NONE = new Set();

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
  away = NONE;
  /** @type {Picture | undefined} */
  picture;
  turn = new AbortController();
  /** @type {HTMLButtonElement[]} of the blocks */
  buttons = [];
  strength = find("#strength", HTMLInputElement);
  int8 = find("#int8", HTMLInputElement);
  chain = find("#chain", HTMLElement);
  verdict = find("#verdict", HTMLElement);
  restore = find("#restore", HTMLButtonElement);

  /**
   * @param {Description} description
   * @param {Uint8Array} stored the pictures (N, 28, 28), then their labels (N,)
   */
  constructor(description, stored) {
    const count = stored.length / (PIXELS + 1);
    this.described = description.networks;
    const { classes } = description;
    this.chance = 1 / classes.length;
    this.bench = new Bench(Float32Array.from(stored.subarray(0, count * PIXELS)), stored.subarray(count * PIXELS));
    this.twins = KINDS.map((kind) => new Twin(kind, classes));
    say("classes", classes.length);
    say("pictures", count);
    say("chance", percent(this.chance, 0));
    say("licence", description.licence);
    for (const depth of new Set(this.described.map((network) => network.layers))) {
      const radio = make("input", { type: "radio", name: "depth", value: `${depth}`, checked: depth === this.depth });
      radio.addEventListener("input", () => this.setDepth(depth));
      find("#depths", HTMLElement).append(make("label", {}, radio, ` ${depth}`));
    }
    this.restore.addEventListener("click", () => {
      this.buttons.find((_, i) => this.away.has(i))?.focus(); // the button itself is disabled now
      this.setAway([]);
    });
    this.strength.addEventListener("input", () => this.update());
    this.int8.addEventListener("input", () => {
      this.#clear();
      void this.update();
    });
    for (const guess of document.getElementsByName("guess")) guess.addEventListener("input", () => this.showVerdict());
    new Picker(classes, this.bench.pictures, this.bench.labels, (picture) => {
      this.picture = picture;
      void this.update();
    });
    this.setDepth(this.depth);
  }

  /** @param {"plain" | "resnet"} kind */
  describe(kind) {
    const found = this.described.find((network) => network.kind === kind && network.layers === this.depth);
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

  /** @param {"plain" | "resnet"} kind */
  gatesOf(kind, away = this.away, strength = this.strength.valueAsNumber) {
    return setGates(kind, this.describe(kind).blocks.length, away, strength);
  }

  /** The block that the guess is about, in the middle. */
  get asked() {
    return Math.floor(this.describe("resnet").blocks.length / 2);
  }

  /** @param {number} depth */
  setDepth(depth) {
    this.depth = depth;
    this.#clear();
    const { blocks, parameters } = this.describe("resnet");
    say("parameters", parameters.toLocaleString("en"));
    say("asked", this.asked + 1);
    this.buttons = blocks.map((_, i) => {
      const button = make("button", { type: "button" }, `${i + 1}`);
      button.setAttribute("aria-label", `Take block ${i + 1} away`);
      button.addEventListener("click", () => {
        this.setAway(this.away.has(i) ? [...this.away].filter((block) => block !== i) : [...this.away, i]);
      });
      return button;
    });
    const stages = STAGES.slice(1).map((stage, number) => {
      const own = this.buttons.filter((_, i) => blocks[i].startsWith(`${stage}.`));
      const title = `Stage ${number + 1}`;
      const group = make("div", { className: "stage" }, make("span", {}, title), ...own);
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", title);
      group.style.setProperty("--blocks", `${own.length}`);
      return group;
    });
    this.chain.replaceChildren(...stages);
    this.setAway([]);
  }

  /** @param {number[]} away the blocks that are taken away */
  setAway(away) {
    this.away = new Set(away.sort((a, b) => a - b));
    this.buttons.forEach((button, i) => button.setAttribute("aria-pressed", `${this.away.has(i)}`));
    this.restore.disabled = !away.length;
    void this.update();
  }

  /** Show nothing of networks that are no longer chosen. */
  #clear(reason = "loading …") {
    for (const twin of this.twins) {
      twin.clear(reason);
      twin.showAccuracy(0);
      twin.showAccuracy(1);
    }
  }

  /** Follow what is chosen: the answers at once, then the accuracies, until the next change. */
  async update() {
    this.turn.abort();
    this.turn = new AbortController();
    const { signal } = this.turn;
    find("#strength-now", HTMLOutputElement).value = this.strength.value;
    for (const twin of this.twins) {
      twin.setName(`${this.nameOf(twin.kind)}${this.int8.checked ? ", INT8" : ""}`);
      twin.showAccuracy(1);
    }
    this.showVerdict();
    try {
      await this.#answer(signal);
      if (signal.aborted) return;
      complain("#trouble");
      await this.#count(signal, 0, NONE, 1);
      await this.#count(signal, 1);
      if (signal.aborted) return;
      this.showVerdict();
      await this.#compare(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#clear("no network");
      const tables = find("#int8-tables", HTMLElement);
      tables.dataset.depth = "";
      for (const place of [this.verdict, tables, find("#spoken", HTMLElement)]) place.textContent = "";
      complain("#trouble", error);
    }
  }

  /** @param {AbortSignal} signal */
  async #answer(signal) {
    const networks = await Promise.all(this.twins.map(({ kind }) => this.bench.load(this.fileOf(kind))));
    const spoken = [];
    for (const [i, twin] of this.twins.entries()) {
      if (signal.aborted) return;
      if (!this.picture) {
        twin.clear("no picture");
        continue;
      }
      const seen = await networks[i].look(this.picture.pixels, this.gatesOf(twin.kind));
      if (signal.aborted) return;
      twin.showMaps(seen.features);
      spoken.push(`${this.nameOf(twin.kind)}: ${twin.showAnswer(seen.probabilities, this.picture.label)}.`);
    }
    find("#spoken", HTMLElement).textContent = spoken.join(" ");
  }

  /**
   * Count what both networks get right, and show it as it grows.
   * @param {AbortSignal} signal
   * @param {0 | 1} row
   * @param {ReadonlySet<number>} [away]
   * @param {number} [strength]
   */
  async #count(signal, row, away, strength) {
    const counts = this.twins.map(async (twin) => {
      const show = (/** @type {Score} */ score) => twin.showAccuracy(row, score);
      const score = await this.bench.score(
        this.fileOf(twin.kind),
        this.gatesOf(twin.kind, away, strength),
        signal,
        show,
      );
      if (score && !signal.aborted) show(score);
    });
    await Promise.all(counts);
  }

  /** Say what taking blocks away has done, and whether that was the guess. */
  showVerdict() {
    const strength = this.strength.valueAsNumber;
    if (!this.away.size && strength === 1) {
      this.verdict.textContent = "All blocks are in place.";
      return;
    }
    const falls = KINDS.flatMap((kind) => {
      const before = this.bench.known(this.fileOf(kind), this.gatesOf(kind, NONE, 1));
      const now = this.bench.known(this.fileOf(kind), this.gatesOf(kind));
      if (!before || !now) return [];
      return { kind, name: this.nameOf(kind), before: before.right / before.done, now: now.right / now.done };
    });
    if (falls.length < KINDS.length) {
      this.verdict.textContent = "Counting …";
      return;
    }
    this.verdict.textContent = describeFalls(this.away, strength, falls);
    const guess = /** @type {HTMLInputElement | null} */ (document.querySelector("[name=guess]:checked"));
    if (guess && this.away.size === 1 && this.away.has(this.asked) && strength === 1) {
      const right = guess.value === findOutcome(falls, this.chance);
      this.verdict.append(" ", make("strong", {}, right ? "As you guessed." : "You guessed otherwise."));
    }
  }

  /**
   * While INT8 is on, show the float and INT8 files of both networks side by side, with all blocks.
   * @param {AbortSignal} signal
   */
  async #compare(signal) {
    const place = find("#int8-tables", HTMLElement);
    const shown = this.int8.checked ? `${this.depth}` : "";
    if (place.dataset.depth === shown) return;
    place.dataset.depth = this.int8.checked ? "counting" : "";
    place.textContent = this.int8.checked ? "Counting …" : "";
    if (!this.int8.checked) return;
    const tables = [];
    for (const kind of KINDS) {
      const columns = [];
      for (const int8 of [false, true]) {
        const score = await this.bench.time(this.fileOf(kind, int8), this.gatesOf(kind, NONE, 1), signal);
        if (!score) return;
        columns.push({ ...score, bytes: this.describe(kind)[int8 ? "int8" : "float"].bytes });
      }
      tables.push(makeComparison(this.nameOf(kind), columns));
    }
    place.replaceChildren(...tables);
    place.dataset.depth = shown;
  }
}

async function start() {
  startRuntime().catch(() => undefined); // ahead of the network that waits for it, and says what was wrong
  try {
    new Explorer(await readJson("data/networks.json"), await readFile("data/pictures.bin"));
  } catch (error) {
    complain("#trouble", error);
  }
  try {
    const stored = await readJson("data/depths.json");
    await loadScript("libraries/uPlot.iife.min.js");
    new DepthSection(stored);
  } catch (error) {
    complain("#depth-trouble", error);
  }
}

void start();
