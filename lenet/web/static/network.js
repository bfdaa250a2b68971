// The layers of a network as pictures: a canvas for each, and the chosen unit.

import { largest, paint, sized } from "./colours.js";

const GAP = 2; // CSS pixels between maps
const MAP = 56; // CSS pixels that a large map takes; more maps make them smaller
/** The maps of a layer, their height and width; units are maps of one value. */
export function sides({ shape }) {
  return [...shape, 1, 1].slice(0, 3);
}

/** Whether the maps of a layer are single values, drawn together as one picture. */
export const isRow = (layer) => sides(layer).slice(1).every((side) => side === 1);

/** Whether a layer pools 2x2 values, with coefficients or without. */
export const pools = ({ kind }) => kind.endsWith("pooling") || kind === "subsampling";

/** What a map reads: for each connection, the input map and the number of the kernel. */
export function wires(layer, map, before) {
  if (layer.connections) return layer.connections[map];
  const [inputs] = sides(before);
  return Array.from({ length: inputs }, (_, input) => [input, map * inputs + input]);
}

/** Columns of a full rectangle of `count` values, with a width near `share` of its height. */
export function columnsOf(count, share = 0.8) {
  const best = Math.sqrt(share * count);
  for (let columns = Math.floor(1.3 * best); columns >= 0.7 * best; columns--) {
    if (count % columns === 0) return columns;
  }
  return Math.ceil(best);
}

/** Where the maps of a layer stand: columns, units of how many pixels. */
function arrange(layer) {
  const [maps, height, width] = sides(layer);
  if (isRow(layer)) {
    if (maps <= 12) return { maps: 1, width: 1, height: maps, columns: 1, unit: 17, count: maps };
    const columns = columnsOf(maps);
    const unit = Math.max(3, Math.min(11, Math.floor(120 / columns)));
    return { maps: 1, width: columns, height: Math.ceil(maps / columns), columns: 1, unit, count: maps };
  }
  const columns = maps === 1 ? 1 : maps <= 6 ? 2 : columnsOf(maps, 1);
  const side = maps === 1 ? 96 : maps <= 6 ? MAP : 32;
  return { maps, width, height, columns, unit: Math.max(1, Math.round(side / width)) };
}

class LayerView {
  constructor(layer, number, network) {
    this.layer = layer;
    this.number = number;
    this.network = network;
    this.form = arrange(layer);
    const { maps, width, height, columns, unit } = this.form;
    this.across = columns * (width * unit + GAP) - GAP;
    this.down = Math.ceil(maps / columns) * (height * unit + GAP) - GAP;
    this.element = this.build();
  }

  build() {
    const { layer } = this;
    const figure = document.createElement("figure");
    figure.className = "layer";
    const title = document.createElement("figcaption");
    const name = document.createElement("b");
    name.textContent = layer.name;
    const [maps, height, width] = sides(layer);
    const size = isRow(layer) ? `${maps}` : `${maps}@${height}×${width}`;
    const kind = document.createElement("span");
    kind.textContent = layer.kind;
    title.append(name, ` ${size}`, kind);
    const frame = document.createElement("div");
    frame.className = "maps";
    this.canvas = document.createElement("canvas");
    this.marks = document.createElement("canvas");
    this.marks.setAttribute("aria-hidden", "true");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "layer");
    this.canvas.setAttribute("aria-label", `${layer.name}, ${size}, ${kind.textContent}; arrow keys choose a unit`);
    frame.append(this.canvas, this.marks);
    this.range = document.createElement("small");
    figure.append(title, frame, this.range);
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.point(event));
    this.canvas.addEventListener("focus", () => this.network.chosen?.number === this.number || this.choose(0, 0, 0));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    return figure;
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const { maps, width, height, columns, unit } = this.form;
    const [wide, high] = [width * unit + GAP, height * unit + GAP];
    const [column, row] = [Math.floor(x / wide), Math.floor(y / high)];
    const [u, v] = [Math.floor((x - column * wide) / unit), Math.floor((y - row * high) / unit)];
    const map = row * columns + column;
    if (map < maps && column < columns && u >= 0 && v >= 0 && u < width && v < height) this.choose(map, v, u);
  }

  key(event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const chosen = this.network.chosen;
    if (!steps[event.key] || chosen?.number !== this.number) return;
    event.preventDefault();
    const { maps, width, height, columns } = this.form;
    const [dy, dx] = steps[event.key];
    const [rows, across] = [Math.ceil(maps / columns) * height, columns * width];
    const y = Math.floor(chosen.map / columns) * height + chosen.y + dy;
    const x = (chosen.map % columns) * width + chosen.x + dx;
    if (y < 0 || x < 0 || y >= rows || x >= across) return;
    const map = Math.floor(y / height) * columns + Math.floor(x / width);
    if (map < maps) this.choose(map, y % height, x % width, true);
  }

  /** Chooses a unit by its place in the drawing, where a row of units counts as one map. */
  choose(map, y, x, said = false) {
    const { count, width } = this.form;
    if (count && y * width + x >= count) return;
    this.network.choose({ number: this.number, map, y, x }, said);
  }

  /** Chooses the middle unit of a map. */
  chooseMap(map, said = false) {
    const [, height, width] = sides(this.layer);
    if (!isRow(this.layer)) this.choose(map, height >> 1, width >> 1, said);
    else this.choose(0, Math.floor(map / this.form.width), map % this.form.width, said);
  }

  /** The chosen unit's map in the layer, and its place there. */
  unit({ map, y, x }) {
    return isRow(this.layer) ? { map: y * this.form.width + x, y: 0, x: 0 } : { map, y, x };
  }

  draw(activation) {
    const { maps, width, height, columns, unit } = this.form;
    const context = sized(this.canvas, this.across, this.down);
    if (!activation) {
      this.range.textContent = " ";
      context.strokeStyle = getComputedStyle(this.canvas).getPropertyValue("--line");
      for (let map = 0; map < maps; map++) {
        const [x, y] = this.corner(map);
        context.strokeRect(x + 0.5, y + 0.5, width * unit - 1, height * unit - 1);
      }
      return;
    }
    const most = largest(activation.values);
    this.range.textContent = `±${brief(most)}`;
    const values = padded(activation.values, maps * width * height);
    for (let map = 0; map < maps; map++) {
      const [x, y] = this.corner(map);
      paint(context, values, width, x, y, unit, most, map * width * height, width * height);
    }
  }

  corner(map) {
    const { width, height, columns, unit } = this.form;
    return [(map % columns) * (width * unit + GAP), Math.floor(map / columns) * (height * unit + GAP)];
  }

  /** Outlines the window { maps, top, left, bottom, right } of its maps; null: nothing. */
  mark(seen, colour) {
    const context = sized(this.marks, this.across, this.down);
    if (!seen) return;
    const { unit, width } = this.form;
    const [maps, ...size] = sides(this.layer);
    context.lineWidth = 2;
    context.strokeStyle = colour;
    const whole = !seen.top && !seen.left && seen.bottom === size[0] && seen.right === size[1];
    if (maps > 1 && seen.maps.length === maps && whole) {
      context.strokeRect(1, 1, this.across - 2, this.down - 2);
      return;
    }
    for (const map of seen.maps) {
      const [x, y] = isRow(this.layer)
        ? [(map % width) * unit, Math.floor(map / width) * unit]
        : this.corner(map);
      context.strokeRect(
        x + seen.left * unit, y + seen.top * unit, (seen.right - seen.left) * unit, (seen.bottom - seen.top) * unit,
      );
    }
  }
}

/** The code of each class as a picture, with the distance of the layer before to it. */
class CodesView extends LayerView {
  build() {
    const figure = super.build();
    this.canvas.parentElement.hidden = true;
    figure.classList.add("codes");
    const list = document.createElement("ol");
    const { values } = this.layer.kernels;
    const length = values.length / this.form.count;
    this.codes = Array.from({ length: this.form.count }, (_, label) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      const picture = document.createElement("canvas");
      const distance = document.createElement("span");
      button.append(picture, distance);
      button.addEventListener("pointerenter", () => this.chooseMap(label));
      button.addEventListener("focus", () => this.chooseMap(label, true));
      button.addEventListener("click", () => this.chooseMap(label, true));
      item.append(button);
      list.append(item);
      return { button, picture, distance, code: values.subarray(label * length, (label + 1) * length) };
    });
    figure.insertBefore(list, this.range);
    return figure;
  }

  draw(activation) {
    const best = activation && activation.values.indexOf(Math.max(...activation.values));
    this.range.textContent = "squared distances; the smallest wins";
    for (const [label, { button, picture, distance, code }] of this.codes.entries()) {
      const columns = columnsOf(code.length);
      const height = Math.ceil(code.length / columns);
      paint(sized(picture, 4 * columns, 4 * height), padded(code, columns * height), columns, 0, 0, 4, 1.4 * largest(code));
      distance.textContent = activation ? brief(-activation.values[label]) : "–";
      button.classList.toggle("best", label === best);
      const name = this.network.model.classes[label];
      button.setAttribute("aria-label", `code of ${name}, distance ${distance.textContent}`);
    }
  }

  mark(seen) {
    this.codes.forEach(({ button }, label) => button.classList.toggle("lit", seen?.maps.includes(label) ?? false));
  }
}

export class Network {
  /** `unit(chosen, said)` is called when a unit is chosen; said: by the keyboard. */
  constructor(place, unit) {
    this.place = place;
    this.unit = unit;
    this.layers = null;
    this.sums = false;
  }

  /** Shows another model, without values. */
  build(model) {
    this.model = model;
    this.chosen = null;
    this.layers = null;
    const input = { name: "input", answers: "input", kind: "prepared image", shape: model.input.shape };
    this.views = [input, ...model.layers].map((layer, number) =>
      layer.operation === "distances" ? new CodesView(layer, number, this) : new LayerView(layer, number, this));
    for (const view of this.views.slice(1)) if (isPartial(view.layer)) this.addTable(view);
    const output = this.views.at(-1);
    if (output.form.count && output.form.width === 1 && !output.codes) this.addLabels(output);
    this.place.replaceChildren(...this.views.map((view) => view.element));
    this.show(null);
  }

  /** Which maps a layer reads, as in Table I of the paper. */
  addTable(view) {
    const table = document.createElement("table");
    table.className = "connections";
    const before = this.views[view.number - 1].layer;
    const { connections } = view.layer;
    table.title = `Which maps of ${before.name} (rows) each map of ${view.layer.name} (columns) reads`;
    table.setAttribute("aria-label", table.title);
    for (let input = 0; input < before.shape[0]; input++) {
      const row = table.insertRow();
      connections.forEach((reads, map) => {
        const cell = row.insertCell();
        cell.textContent = reads.some(([source]) => source === input) ? "×" : "";
        cell.addEventListener("pointerenter", () => view.chooseMap(map));
      });
    }
    view.element.append(table);
    view.table = table;
  }

  addLabels(view) {
    const list = document.createElement("ol");
    list.className = "classes";
    for (const name of this.model.classes) {
      const item = document.createElement("li");
      item.textContent = name;
      list.append(item);
    }
    view.canvas.parentElement.append(list);
  }

  /** Draws the layers of a trace (a Map by name), or nothing. */
  show(layers) {
    this.layers = layers;
    for (const view of this.views) view.draw(layers?.get(this.shownName(view.layer)));
  }

  shownName(layer) {
    return this.sums ? layer.name : layer.answers;
  }

  choose(chosen, said) {
    this.chosen = chosen;
    this.mark();
    this.unit(chosen, said);
  }

  /** The window of each earlier layer that the chosen unit sees; the first entry is the input's. */
  seen() {
    const { number } = this.chosen;
    const { map, y, x } = this.views[number].unit(this.chosen);
    const windows = [];
    windows[number] = { maps: [map], top: y, left: x, bottom: y + 1, right: x + 1 };
    // Beyond the edges is padding: the outline ends there, but the window is followed further back.
    let [top, left, bottom, right] = [y, x, y + 1, x + 1];
    for (let i = number; i > 0; i--) {
      const { layer } = this.views[i];
      const before = this.views[i - 1].layer;
      const [maps, height, width] = sides(before);
      const reach = layer.window - layer.stride - layer.padding;
      [top, left] = [top * layer.stride - layer.padding, left * layer.stride - layer.padding];
      [bottom, right] = [bottom * layer.stride + reach, right * layer.stride + reach];
      windows[i - 1] = {
        maps: layer.connections
          ? [...new Set(windows[i].maps.flatMap((own) => layer.connections[own].map(([source]) => source)))]
          : [...Array(maps).keys()],
        top: Math.max(0, top), left: Math.max(0, left),
        bottom: Math.min(height, bottom), right: Math.min(width, right),
      };
    }
    return windows;
  }

  mark() {
    const colour = getComputedStyle(this.place).getPropertyValue("--accent");
    const windows = this.chosen ? this.seen() : [];
    this.views.forEach((view, i) => view.mark(windows[i] ?? null, colour));
    const chosen = this.chosen && this.views[this.chosen.number].unit(this.chosen).map;
    for (const { table, number } of this.views) {
      if (!table) continue;
      const own = this.chosen?.number === number ? chosen : -1;
      const source = this.chosen?.number === number - 1 ? chosen : -1;
      [...table.rows].forEach((row, input) => [...row.cells].forEach((cell, map) => {
        cell.classList.toggle("lit", map === own || input === source);
        cell.classList.toggle("on", (map === own || input === source) && cell.textContent !== "");
      }));
    }
  }
}

/** Whether a layer's maps read chosen maps, and not each its own. */
function isPartial({ connections }) {
  return connections?.some((reads, map) => reads.length !== 1 || reads[0][0] !== map);
}

/** The values, filled up with zeros to a length. */
export function padded(values, count) {
  if (values.length === count) return values;
  const longer = new Float32Array(count);
  longer.set(values);
  return longer;
}

/** A number in three significant digits or so, with a true minus. */
export function brief(value) {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toFixed(digits).replace("-", "−");
}
