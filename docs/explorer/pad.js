// The drawing pad: strokes of a mouse, pen or finger, made into a picture like those of the data set.
"use strict";

const PAD = 280;
const BRUSH = 26;

class Pad {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {() => void} drawn is called after each stroke
   */
  constructor(canvas, drawn) {
    canvas.width = canvas.height = PAD;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    Object.assign(this.context, { lineWidth: BRUSH, lineCap: "round", lineJoin: "round", strokeStyle: "white" });
    this.clear();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.context.beginPath();
      this.context.moveTo(...this.#position(event));
      this.#extend(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) this.#extend(event);
    });
    canvas.addEventListener("pointerup", drawn);
  }

  clear() {
    this.context.fillRect(0, 0, PAD, PAD); // black
  }

  /** @param {PointerEvent} event */
  #extend(event) {
    this.context.lineTo(...this.#position(event));
    this.context.stroke();
  }

  /**
   * @param {PointerEvent} event
   * @returns {[number, number]}
   */
  #position(event) {
    const box = this.context.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * PAD, ((event.clientY - box.top) / box.height) * PAD];
  }

  /**
   * The drawing as Fashion-MNIST has its pictures: the longer side fills 28 pixels, the shorter is centred.
   * @returns {Float32Array | undefined} (28, 28), grey values from 0 to 255; undefined if nothing is drawn
   */
  picture() {
    const { data } = this.context.getImageData(0, 0, PAD, PAD);
    let [left, top, right, bottom] = [PAD, PAD, -1, -1];
    for (let y = 0; y < PAD; y++) {
      for (let x = 0; x < PAD; x++) {
        if (data[4 * (y * PAD + x)] === 0) continue;
        [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), y];
      }
    }
    if (right < 0) return undefined;
    const [width, height] = [right - left + 1, bottom - top + 1];
    const scale = SIDE / Math.max(width, height);
    const small = new OffscreenCanvas(SIDE, SIDE).getContext("2d");
    if (!small) throw new Error("The browser gives no canvas to shrink the drawing on.");
    Object.assign(small, { imageSmoothingEnabled: true, imageSmoothingQuality: "high" });
    const [x, y] = [(SIDE - width * scale) / 2, (SIDE - height * scale) / 2];
    small.drawImage(this.context.canvas, left, top, width, height, x, y, width * scale, height * scale);
    const { data: shrunk } = small.getImageData(0, 0, SIDE, SIDE);
    return Float32Array.from({ length: PIXELS }, (_, i) => shrunk[4 * i]);
  }
}
