// The arithmetic of one unit: its patch, its kernel, the sum, the bias and the squashing.

import { largest, paint, sized } from "./colours.js";
import { brief, columnsOf, isRow, padded, pools, sides, wires } from "./network.js";

const SQUASH = {
  "sigmoid": ["σ(a)", (a) => 1 / (1 + Math.exp(-a))],
  "tanh": ["tanh a", Math.tanh],
  "scaled-tanh": ["1.7159 tanh(⅔ a)", (a) => 1.7159 * Math.tanh((2 / 3) * a)],
  "relu": ["max(0, a)", (a) => Math.max(0, a)],
  "gelu": ["a σ(1.702 a)", (a) => a / (1 + Math.exp(-1.702 * a))],
  "silu": ["a σ(a)", (a) => a / (1 + Math.exp(-a))],
};

/** Computes the chosen unit from the layer before: its parts, bias, weighted sum and value. */
export function compute(network) {
  const { number } = network.chosen;
  if (number === 0 || !network.layers) return null;
  const view = network.views[number];
  const { layer } = view;
  const before = network.views[number - 1].layer;
  const input = network.layers.get(before.answers).values;
  const { map, y, x } = view.unit(network.chosen);
  const size = layer.window ** 2;
  const parts = wires(layer, map, before).map(([source, kernel]) => {
    const weights = layer.kernels?.values.subarray(kernel * size, (kernel + 1) * size) ?? null;
    return part(layer, source, cut(input, source, layer, before, y, x), weights, layer.window);
  });
  if (isRow(before)) parts.splice(0, parts.length, joined(layer, parts));
  const [maps, height, width] = sides(layer);
  const own = layer.biases?.length > maps;  // a bias for each unit
  const bias = layer.biases?.[own ? (map * height + y) * width + x : map] ?? 0;
  const sum = parts.reduce((total, each) => total + each.sum, 0) + bias;
  const [words, squash] = SQUASH[layer.squash] ?? ["", (a) => a];
  const value = layer.operation === "distances" ? -sum : squash(sum);
  return { layer, before, map, y, x, parts, bias, sum, words, value };
}

/** What one map before adds to a unit. */
function part(layer, source, patch, weights, width) {
  if (layer.operation === "maximum") {
    const largest = Math.max(...patch);
    return { source, patch, weights: null, width, largest, sum: (weights?.[0] ?? 1) * largest };
  }
  const products = patch.map((value, i) =>
    layer.operation === "distances" ? (value - weights[i]) ** 2 : value * weights[i]);
  return { source, patch, weights, products, width, sum: products.reduce((a, b) => a + b, 0) };
}

/** Parts of one value each as a single part. */
function joined(layer, parts) {
  const all = (name) => Float32Array.from(parts, (each) => each[name][0]);
  return part(layer, 0, all("patch"), all("weights"), columnsOf(parts.length));
}

/** The window of a unit in one map; the layer's border where it reaches over the edge. */
function cut(values, map, layer, before, y, x) {
  const [, height, width] = sides(before);
  const patch = new Float32Array(layer.window ** 2).fill(layer.border);
  for (let v = 0; v < layer.window; v++) {
    for (let u = 0; u < layer.window; u++) {
      const [row, column] = [y * layer.stride - layer.padding + v, x * layer.stride - layer.padding + u];
      if (row >= 0 && column >= 0 && row < height && column < width) {
        patch[v * layer.window + u] = values[(map * height + row) * width + column];
      }
    }
  }
  return patch;
}

/** Writes the arithmetic into the page. */
export function explain(network, words, place, live) {
  const { number } = network.chosen;
  const view = network.views[number];
  const { layer } = view;
  const { map, y, x } = view.unit(network.chosen);
  const last = number === network.views.length - 1;
  const where = !isRow(layer)
    ? `${number ? `map ${map}, ` : ""}row ${y}, column ${x}`
    : last ? `class ${network.model.classes[map]}` : `unit ${map}`;
  const unit = compute(network);
  if (!unit) {
    const value = network.layers?.get("input").values[y * sides(layer)[2] + x];
    words.textContent = `${layer.name}, ${where}` + (value === undefined ? "" : `: ${brief(value)}`);
    place.replaceChildren();
    return;
  }
  words.replaceChildren(bold(`${layer.name}, ${where}`), ` ${sentence(unit)}`);
  const large = unit.parts.length === 1 && unit.parts[0].width <= 5;
  const most = Object.fromEntries(["patch", "weights"].map((name) =>
    [name, Math.max(...unit.parts.map((each) => largest(each[name] ?? [])))]));
  place.replaceChildren(...unit.parts.map((each) => drawPart(unit, each, large, most)), total(unit));
  live.textContent = `${layer.name}, ${where}: ${brief(unit.value)}`;
}

function sentence({ layer, before, parts }) {
  const window = `${layer.window}×${layer.window} values`;
  const [maps] = sides(before);
  const one = maps > 1 ? `map ${parts[0].source} of ${before.name}` : before.name;
  if (layer.operation === "distances") {
    return `sums the squared differences between ${before.name} and this class’s code; its score is minus that sum.`;
  }
  if (isRow(before)) return `sees all ${parts[0].patch.length} values of ${before.name}.`;
  if (layer.operation === "maximum") return `takes the largest of ${window} of ${one}.`;
  if (pools(layer)) {
    return `adds ${window} of ${one}, each times ${layer.biases ? "one trainable coefficient" : brief(parts[0].weights[0])}.`;
  }
  if (parts.length === 1) return `sees ${window} of ${one}.`;
  const which = parts.length < maps ? `: ${parts.map(({ source }) => source).join(", ")}` : "";
  return `sees ${window} in ${which ? "" : "all "}${parts.length} maps of ${before.name}${which}.`;
}

function drawPart({ layer, before, parts }, { source, patch, weights, products, width, sum }, large, most) {
  const row = document.createElement("div");
  row.className = "part";
  const unit = large ? (width <= 2 ? 40 : 21) : width <= 5 ? (parts.length > 6 ? 7 : 10) : width <= 7 ? 9 : 8;
  const difference = layer.operation === "distances";
  const which = sides(before)[0] > 1 && !isRow(before) ? ` ${source}` : "";
  const pictures = [grid(patch, width, unit, most.patch, large, `${before.name}${which}`)];
  if (weights) {
    const name = difference ? "code" : isRow(before) || pools(layer) ? "weights" : "kernel";
    pictures.push(sign(difference ? "−" : "×"), grid(weights, width, unit, most.weights, large, name));
    if (large || parts.length === 1) {
      pictures.push(sign("="), grid(products, width, unit, largest(products), large, difference ? "squared" : "products"));
    }
    pictures.push(sign(large || parts.length === 1 ? "Σ" : "="), number(sum));
  }
  row.append(...pictures);
  return row;
}

function total({ layer, parts, bias, sum, value, words }) {
  const line = document.createElement("p");
  line.className = "total";
  if (layer.operation === "distances") {
    line.append("distance ", bold(brief(sum)), `, score ${brief(value)}`);
    return line;
  }
  const weighted = document.createElement("span");
  const terms = parts.map((each) => brief(each.sum)).join(" + ").replaceAll("+ −", "− ");
  if (layer.operation === "maximum") {
    const { largest } = parts[0];
    weighted.append(words ? "a = largest " : "largest ", layer.kernels ? brief(largest) : bold(brief(largest)));
    if (layer.kernels) weighted.append(`, times ${brief(parts[0].sum / largest)}`);
  } else if (words || layer.biases || parts.length > 1) {
    weighted.append(`a = ${terms}`);
  } else {
    weighted.append("sum ", bold(brief(sum)));
  }
  if (layer.biases) {
    weighted.append(` ${bias < 0 ? "−" : "+"} ${brief(Math.abs(bias))} `, small("bias"), ` = ${brief(sum)}`);
  }
  line.append(weighted);
  if (words) {
    const answer = document.createElement("span");
    answer.append(`${words} = `, bold(brief(value)));
    line.append(answer);
  }
  return line;
}

function grid(values, width, unit, most, numbers, name) {
  const figure = document.createElement("figure");
  const canvas = document.createElement("canvas");
  const height = Math.ceil(values.length / width);
  const context = sized(canvas, width * unit, height * unit);
  paint(context, padded(values, width * height), width, 0, 0, unit, most);
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
