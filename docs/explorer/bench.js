// The networks on the stored pictures: loaded once, counted once.
"use strict";

class Bench {
  /** @type {Map<string, Promise<Network>>} */
  #networks = new Map();
  /** @type {Map<string, Score>} */
  #scores = new Map();

  /**
   * @param {Float32Array} pictures (N, 28, 28), grey values from 0 to 255
   * @param {Uint8Array} labels (N,)
   */
  constructor(pictures, labels) {
    this.pictures = pictures;
    this.labels = labels;
  }

  /**
   * @param {string} file such as "resnet20" or "resnet20_int8"
   * @returns {Promise<Network>}
   */
  load(file) {
    const known = this.#networks.get(file);
    if (known) return known;
    const loading = Network.load(file);
    this.#networks.set(file, loading);
    loading.catch(() => this.#networks.delete(file)); // the next one who asks tries again
    return loading;
  }

  /**
   * @param {string} file
   * @param {Gates} gates
   */
  #key(file, gates) {
    return `${file} ${gates.branch} ${gates.shortcut}`;
  }

  /**
   * The score, if it was counted before.
   * @param {string} file
   * @param {Gates} gates
   */
  known(file, gates) {
    return this.#scores.get(this.#key(file, gates));
  }

  /**
   * @param {string} file
   * @param {Gates} gates
   * @param {AbortSignal} signal
   * @param {(score: Score) => void} [progress] is told the score so far
   * @returns {Promise<Score | undefined>} undefined if aborted
   */
  async score(file, gates, signal, progress) {
    const known = this.known(file, gates);
    if (known) return known;
    const network = await this.load(file);
    const score = await network.score(this.pictures, this.labels, gates, signal, progress);
    if (score) this.#scores.set(this.#key(file, gates), score);
    return score;
  }

  /**
   * The score with the shorter time of two counts: the browser compiles what runs often, so the first is slow.
   * @param {string} file
   * @param {Gates} gates
   * @param {AbortSignal} signal
   */
  async time(file, gates, signal) {
    const score = await this.score(file, gates, signal);
    const network = await this.load(file);
    const again = await network.score(this.pictures, this.labels, gates, signal);
    return score && again && { ...score, milliseconds: Math.min(score.milliseconds, again.milliseconds) };
  }
}
