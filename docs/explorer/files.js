// The files of data/ and libraries/. A page that is opened from disk may not fetch, so the build has packed each file,
// gzipped and in base64, into a script that calls `received`.
"use strict";

/** @type {Map<string, string>} */
const packed = new Map();

/**
 * Keep what a packed script holds.
 * @param {string} name
 * @param {string} base64
 */
function received(name, base64) {
  packed.set(name, base64);
}

/**
 * The bytes of a file, such as "data/pictures.bin".
 * @param {string} name
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 * @throws {Error} it is missing or damaged: the message names it
 */
async function readFile(name) {
  await loadScript(`${name}.js`);
  try {
    const binary = atob(packed.get(name) ?? "");
    packed.delete(name);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
    const unzipped = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(unzipped).arrayBuffer());
  } catch {
    throw new Error(`${name}.js is damaged: build this page again, as its last lines say.`);
  }
}

/**
 * A JSON file's value.
 * @param {string} name
 * @returns {Promise<any>}
 */
async function readJson(name) {
  return JSON.parse(new TextDecoder().decode(await readFile(name)));
}

/**
 * Run a script.
 * @param {string} source
 * @returns {Promise<void>}
 * @throws {Error} it is missing: the message names it
 */
function loadScript(source) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = source;
    script.onload = () => {
      script.remove();
      resolve();
    };
    script.onerror = () => {
      script.remove();
      reject(new Error(`${source} is missing: build this page again, as its last lines say.`));
    };
    document.head.append(script);
  });
}
