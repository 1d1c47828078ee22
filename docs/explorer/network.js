// Trained networks, run by ONNX Runtime Web in WebAssembly, and their accuracy on the stored pictures.
"use strict";

const SIDE = 28;
const PIXELS = SIDE * SIDE;
const STAGES = ["conv1", "layer1", "layer2", "layer3"];
const CHUNK = 5; // pictures that are computed in one go; a click waits for no more than these
const REPORT = 50; // pictures after which progress is told

/**
 * Block i gives relu(branch[i] * F(x) + shortcut[i] * S(x)), where S(x) is x, brought into shape.
 * @typedef {{branch: Float32Array, shortcut: Float32Array}} Gates
 * @typedef {{data: Float32Array, maps: number, side: number}} Features
 * @typedef {{right: number, done: number, classes: Uint8Array, milliseconds: number}} Score
 */

/**
 * The gates of a network of which some blocks are taken away and all other shortcuts have a strength.
 * @param {"plain" | "resnet"} kind
 * @param {number} blocks how many it has
 * @param {ReadonlySet<number>} away
 * @param {number} strength 0 to 1; a plain net has no shortcuts, so it is the same at any
 * @returns {Gates}
 */
function setGates(kind, blocks, away, strength) {
  const branch = new Float32Array(blocks).fill(1);
  const shortcut = new Float32Array(blocks).fill(kind === "resnet" ? strength : 0);
  for (const i of away) [branch[i], shortcut[i]] = [0, 1];
  return { branch, shortcut };
}

/** @returns {boolean} whether the browser runs the vector instructions (SIMD) that ONNX Runtime is compiled to */
function hasSimd() {
  // A module with one function, () -> v128: i8x16.popcnt(i8x16.splat(0)).
  const bytes = [
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
  ];
  return typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(bytes));
}

/** @type {Promise<void> | undefined} */
let runtime;

/** Hand ONNX Runtime its WebAssembly, once: it would fetch it otherwise. */
function startRuntime() {
  if (runtime) return runtime;
  runtime = (async () => {
    if (!hasSimd()) {
      throw new Error(
        "This browser has no WebAssembly SIMD, which the networks need. Any browser of 2023 or later has.",
      );
    }
    const [glue, binary] = await Promise.all([
      readFile("libraries/ort-wasm-simd-threaded.mjs"),
      readFile("libraries/ort-wasm-simd-threaded.wasm"),
      loadScript("libraries/ort.wasm.min.js"),
    ]);
    ort.env.wasm.numThreads = 1; // more would need headers of a server
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
    ort.env.wasm.wasmBinary = binary;
  })();
  runtime.catch(() => (runtime = undefined)); // the next one who asks tries again
  return runtime;
}

class Network {
  /** @param {import("onnxruntime-common").InferenceSession} session */
  constructor(session) {
    this.session = session;
  }

  /**
   * @param {string} name such as "resnet20" or "resnet20_int8"
   * @returns {Promise<Network>}
   */
  static async load(name) {
    const [file] = await Promise.all([readFile(`data/${name}.onnx`), startRuntime()]);
    return new Network(await ort.InferenceSession.create(file));
  }

  /**
   * @param {Float32Array} pictures (N, 28, 28), grey values from 0 to 255
   * @param {Gates} gates
   * @param {string[]} outputs which are to be computed
   */
  async run(pictures, gates, outputs) {
    const feeds = {
      pictures: new ort.Tensor("float32", pictures, [pictures.length / PIXELS, 1, SIDE, SIDE]),
      branch: new ort.Tensor("float32", gates.branch, [gates.branch.length]),
      shortcut: new ort.Tensor("float32", gates.shortcut, [gates.shortcut.length]),
    };
    return this.session.run(feeds, outputs);
  }

  /**
   * @param {Float32Array} pictures (N, 28, 28)
   * @param {Gates} gates
   * @returns {Promise<Float32Array>} (N, classes)
   */
  async logits(pictures, gates) {
    return /** @type {Float32Array} */ ((await this.run(pictures, gates, ["logits"])).logits.data);
  }

  /**
   * What a network makes of one picture.
   * @param {Float32Array} picture (28, 28)
   * @param {Gates} gates
   * @returns {Promise<{probabilities: number[], features: Features[]}>} the features of each stage
   */
  async look(picture, gates) {
    const results = await this.run(picture, gates, ["logits", ...STAGES]);
    const features = STAGES.map((stage) => {
      const { data, dims } = results[stage];
      return { data: /** @type {Float32Array} */ (data), maps: dims[1], side: dims[2] };
    });
    return { probabilities: softmax(/** @type {Float32Array} */ (results.logits.data)), features };
  }

  /**
   * Classify all pictures, some at a time, so that the page stays awake.
   * @param {Float32Array} pictures (N, 28, 28)
   * @param {Uint8Array} labels (N,)
   * @param {Gates} gates
   * @param {AbortSignal} signal
   * @param {(score: Score) => void} [progress] is told the score so far
   * @returns {Promise<Score | undefined>} undefined if aborted
   */
  async score(pictures, labels, gates, signal, progress) {
    const score = { right: 0, done: 0, classes: new Uint8Array(labels.length), milliseconds: 0 };
    while (score.done < labels.length) {
      await breathe();
      if (signal.aborted) return undefined;
      const end = Math.min(score.done + CHUNK, labels.length);
      const start = performance.now();
      const logits = await this.logits(pictures.subarray(score.done * PIXELS, end * PIXELS), gates);
      score.milliseconds += performance.now() - start;
      const classes = logits.length / (end - score.done);
      for (let i = 0; score.done < end; i++, score.done++) {
        const best = largest(logits.subarray(i * classes, (i + 1) * classes));
        score.classes[score.done] = best;
        if (best === labels[score.done]) score.right++;
      }
      if (score.done % REPORT === 0) progress?.(score);
    }
    return score;
  }
}

/**
 * Let the browser handle clicks and draw. A message, as timers wait for 4 ms each.
 * @returns {Promise<void>}
 */
function breathe() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/**
 * @param {ArrayLike<number>} values
 * @returns {number} the index of the largest
 */
function largest(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/**
 * @param {Float32Array} logits
 * @returns {number[]} the probabilities
 */
function softmax(logits) {
  const powers = Array.from(logits, (logit) => Math.exp(logit - Math.max(...logits)));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}
