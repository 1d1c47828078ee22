// The types of the libraries that are loaded as scripts, for tsc and editors.
import type * as OnnxRuntime from "onnxruntime-common";
import "uplot"; // declares the global uPlot itself

declare global {
  const ort: typeof OnnxRuntime;
}
