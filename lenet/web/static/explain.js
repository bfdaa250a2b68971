// The arithmetic of one unit: its patch, its kernel, the sum, the bias and the squashing.

import { largest, paint, sized } from "./colours.js";
import { brief } from "./network.js";

const SQUASH = {
  "sigmoid": ["σ(a)", (a) => 1 / (1 + Math.exp(-a))],
  "tanh": ["tanh a", Math.tanh],
  "scaled-tanh": ["1.7159 tanh(⅔ a)", (a) => 1.7159 * Math.tanh((2 / 3) * a)],
  "relu": ["max(0, a)", (a) => Math.max(0, a)],
  "gelu": ["a σ(1.702 a)", (a) => a / (1 + Math.exp(-1.702 * a))],
  "silu": ["a σ(a)", (a) => a / (1 + Math.exp(-a))],
};

/** Computes a unit from the layer before: { parts, bias, sum, value, words }. */
export function compute(network) {
  const { number, map, y, x } = network.chosen;
  const view = network.views[number];
  const { layer } = view;
  if (number === 0 || !network.layers) return null;
  const before = network.views[number - 1].layer;
  const input = network.layers.get(before.answers);
  const unit = layer.shape.length === 1 || layer.shape[1] === 1 ? y * view.form.width + x : map;
  const place = layer.shape.length === 1 || layer.shape[1] === 1 ? [0, 0] : [y, x];
  const found = { layer, before, unit, parts: [], bias: layer.biases?.[unit] ?? null };
  if (layer.kind === "full connection" || layer.kind === "distances") {
    const inputs = layer.weights.shape[1];
    const weights = layer.weights.values.subarray(unit * inputs, (unit + 1) * inputs);
    found.parts.push(part(0, input.values, weights, inputs === 84 ? 7 : Math.ceil(Math.sqrt(inputs * 0.8)), layer.kind));
  } else {
    let kernel = 0;
    if (layer.kind === "convolution") {
      for (let i = 0; i < unit; i++) kernel += layer.connections[i].length;
    }
    for (const source of layer.connections[unit]) {
      const patch = cut(input, source, layer, place);
      const size = layer.window ** 2;
      const weights = layer.kind === "convolution"
        ? layer.weights.values.subarray(kernel * size, (kernel + 1) * size)
        : new Float32Array(size).fill(layer.scale * (layer.weights?.values[unit] ?? 1));
      found.parts.push(part(source, patch, weights, layer.window, layer.kind));
      kernel += 1;
    }
  }
  const total = found.parts.reduce((sum, each) => sum + each.sum, 0);
  found.sum = total + (found.bias ?? 0);
  if (layer.kind === "maximum") found.sum = Math.max(...found.parts[0].patch);
  const [words, squash] = SQUASH[layer.squash] ?? ["", (a) => a];
  found.squash = words;
  found.value = squash(found.sum);
  return found;
}

function part(source, patch, weights, width, kind) {
  const products = Float32Array.from(weights, (weight, i) =>
    kind === "distances" ? (patch[i] - weight) ** 2 : patch[i] * weight);
  return { source, patch: patch.slice(0, weights.length), weights, products, width, sum: products.reduce((a, b) => a + b, 0) };
}

/** The window of a unit in one map; zeros where it reaches over the edge. */
function cut(input, map, layer, [y, x]) {
  const [, height, width] = input.shape;
  const patch = new Float32Array(layer.window ** 2);
  for (let v = 0; v < layer.window; v++) {
    for (let u = 0; u < layer.window; u++) {
      const [row, column] = [y * layer.stride - layer.padding + v, x * layer.stride - layer.padding + u];
      if (row >= 0 && column >= 0 && row < height && column < width) {
        patch[v * layer.window + u] = input.values[(map * height + row) * width + column];
      }
    }
  }
  return patch;
}

/** Writes the arithmetic into the page. */
export function explain(network, words, place, live) {
  const { number, map, y, x } = network.chosen;
  const { layer } = network.views[number];
  const where = layer.shape.length === 3 && layer.shape[1] > 1
    ? `${number ? `map ${map}, ` : ""}row ${y}, column ${x}`
    : number === network.views.length - 1 ? `class ${network.model.classes[y]}` : `unit ${y * network.views[number].form.width + x}`;
  const found = compute(network);
  if (!found) {
    const value = network.layers?.get("input").values[y * layer.shape[2] + x];
    words.textContent = `${layer.name}, ${where}` + (value === undefined ? "" : `: ${brief(value)}`);
    place.replaceChildren();
    return;
  }
  words.replaceChildren(bold(`${layer.name}, ${where}`), ` ${sentence(found)}`);
  const large = found.parts.length === 1 && found.parts[0].width <= 5;
  const most = { patch: Math.max(...found.parts.map((p) => largest(p.patch))), weights: Math.max(...found.parts.map((p) => largest(p.weights))) };
  const rows = found.parts.map((each) => drawPart(found, each, large, most));
  place.replaceChildren(...rows, total(found));
  live.textContent = `${layer.name}, ${where}: ${brief(found.value)}`;
}

function sentence({ layer, before, parts }) {
  const seen = `${layer.window}×${layer.window}`;
  switch (layer.kind) {
    case "convolution":
      return parts.length === 1
        ? `sees ${seen} values of ${before.name}.`
        : `sees ${seen} values in ${parts.length} maps of ${before.name}: ${parts.map((p) => p.source).join(", ")}.`;
    case "subsampling": return `takes ${seen} values of one map of ${before.name} times one trainable coefficient.`;
    case "average": return `is the mean of ${seen} values of one map of ${before.name}.`;
    case "maximum": return `is the largest of ${seen} values of one map of ${before.name}.`;
    case "distances": return `sums the squared differences between ${before.name} and this class’s code; its score is that with a minus.`;
    default: return `sees all ${parts[0].patch.length} values of ${before.name}.`;
  }
}

function drawPart(found, { source, patch, weights, products, width, sum }, large, most) {
  const row = document.createElement("div");
  row.className = "part";
  const unit = large ? (width <= 2 ? 40 : 21) : width <= 5 ? (found.parts.length > 6 ? 7 : 10) : width <= 7 ? 9 : 8;
  const difference = found.layer.kind === "distances";
  const pictures = [grid(patch, width, unit, most.patch, large, `${found.before.name}${found.parts.length > 1 ? ` ${source}` : ""}`)];
  if (found.layer.kind !== "maximum") {
    const name = { "convolution": "kernel", "distances": "code", "full connection": "weights" }[found.layer.kind] ?? "weights";
    pictures.push(sign(difference ? "−" : "×"), grid(weights, width, unit, most.weights, large, name));
    if (large || found.parts.length === 1) {
      pictures.push(sign("="), grid(products, width, unit, largest(products), large, difference ? "squared" : "products"));
    }
    pictures.push(sign(large || found.parts.length === 1 ? "Σ" : "="), number(sum));
  }
  row.append(...pictures);
  return row;
}

function total(found) {
  const line = document.createElement("p");
  line.className = "total";
  const { layer, parts, bias, sum, value, squash } = found;
  if (layer.kind === "maximum") line.append("largest ", bold(brief(value)));
  else if (layer.kind === "average") line.append("mean ", bold(brief(value)));
  else if (layer.kind === "distances") line.append("distance ", bold(brief(value)), `, score ${brief(-value)}`);
  else {
    const terms = parts.length > 1 ? `${parts.map((p) => brief(p.sum)).join(" + ").replaceAll("+ −", "− ")}` : brief(parts[0].sum);
    const weighted = document.createElement("span");
    weighted.append(`a = ${terms} ${bias < 0 ? "−" : "+"} ${brief(Math.abs(bias))} `, small("bias"), ` = ${brief(sum)}`);
    const answer = document.createElement("span");
    if (squash) answer.append(`${squash} = `, bold(brief(value)));
    line.append(weighted, answer);
  }
  return line;
}

function grid(values, width, unit, most, numbers, name) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  const height = Math.ceil(values.length / width);
  const context = sized(canvas, width * unit, height * unit);
  const filled = new Float32Array(width * height);
  filled.set(values);
  paint(context, filled, width, 0, 0, unit, most);
  if (numbers) {
    const style = getComputedStyle(document.documentElement);
    context.font = `${unit > 30 ? 12 : 8.5}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    values.forEach((value, i) => {
      context.fillStyle = style.getPropertyValue(Math.abs(value) > 0.55 * most ? "--on-strong" : "--text");
      const text = brief(value).replace(/^(−?)0\./, "$1.");
      context.fillText(unit > 30 ? text : text.slice(0, value < 0 ? 4 : 3), ((i % width) + 0.5) * unit, (Math.floor(i / width) + 0.55) * unit);
    });
  }
  canvas.setAttribute("aria-hidden", "true");
  const caption = document.createElement("figcaption");
  caption.textContent = name;
  figure.append(canvas, caption);
  return figure;
}

const element = (kind, text, type) => {
  const made = document.createElement(kind);
  made.textContent = text;
  if (type) made.className = type;
  return made;
};
const bold = (text) => element("b", text);
const small = (text) => element("small", text);
const sign = (text) => element("span", text, "sign");
const number = (value) => element("span", brief(value), "number");
