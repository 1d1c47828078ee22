// What the networks are shown: one of the stored pictures, or a drawing.
"use strict";

/**
 * `pixels` are (28, 28), grey values from 0 to 255; a drawing has no label.
 * @typedef {{pixels: Float32Array, name: string, label?: number}} Picture
 */

class Picker {
  /**
   * @param {string[]} classes
   * @param {Float32Array} pictures (N, 28, 28)
   * @param {Uint8Array} labels (N,)
   * @param {(picture: Picture | undefined) => void} picked is told the new picture; undefined if there is none
   */
  constructor(classes, pictures, labels, picked) {
    this.classes = classes;
    this.pictures = pictures;
    this.labels = labels;
    this.picked = picked;
    this.drawing = false; // whether the drawing is what is shown
    this.turned = 0; // how often other pictures were asked for
    this.says = find("#pad-says", HTMLElement);
    this.pad = new Pad(find("#pad", HTMLCanvasElement), () => this.useDrawing());
    find("#use", HTMLButtonElement).addEventListener("click", () => this.useDrawing());
    find("#clear", HTMLButtonElement).addEventListener("click", () => {
      this.pad.clear();
      if (this.drawing) this.useDrawing();
    });
    find("#others", HTMLButtonElement).addEventListener("click", () => {
      this.turned++;
      this.#fill();
    });
    find("input", HTMLInputElement, this.#fill()).click();
  }

  /** Show two pictures of each class. */
  #fill() {
    const gallery = find("#gallery", HTMLElement);
    const places = this.classes.flatMap((_, label) => {
      const alike = [...this.labels.keys()].filter((i) => this.labels[i] === label);
      return [0, 1].map((i) => alike[(2 * this.turned + i) % alike.length]);
    });
    gallery.replaceChildren(...places.map((place) => this.#choice(place)));
    return gallery;
  }

  /** @param {number} place of a stored picture */
  #choice(place) {
    const label = this.labels[place];
    const name = this.classes[label];
    const pixels = this.pictures.subarray(place * PIXELS, (place + 1) * PIXELS);
    const canvas = make("canvas");
    drawPicture(canvas, pixels);
    const radio = make("input", { type: "radio", name: "picture" });
    radio.setAttribute("aria-label", `${name}, picture ${place + 1}`);
    radio.addEventListener("input", () => this.#show({ pixels, name, label }));
    return make("label", { title: name }, radio, canvas);
  }

  useDrawing() {
    for (const radio of document.getElementsByName("picture")) /** @type {HTMLInputElement} */ (radio).checked = false;
    const pixels = this.pad.picture();
    this.#show(pixels && { pixels, name: "Your drawing" });
    this.drawing = true;
    if (!pixels) this.says.textContent = "The drawing is empty: draw something, or pick a picture.";
  }

  /** @param {Picture | undefined} picture */
  #show(picture) {
    this.drawing = false;
    this.says.textContent = "";
    const canvas = find("#chosen", HTMLCanvasElement);
    drawPicture(canvas, picture?.pixels ?? new Float32Array(PIXELS));
    canvas.setAttribute("aria-label", picture ? `Chosen picture: ${picture.name}` : "No picture");
    find("#chosen-name", HTMLElement).textContent = picture?.name ?? "No picture";
    this.picked(picture);
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Float32Array} pixels (28, 28), grey values from 0 to 255
 */
function drawPicture(canvas, pixels) {
  canvas.width = canvas.height = SIDE;
  const image = new ImageData(SIDE, SIDE);
  pixels.forEach((grey, i) => image.data.set([grey, grey, grey, 255], 4 * i));
  canvas.getContext("2d")?.putImageData(image, 0, 0);
}
