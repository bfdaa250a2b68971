// The layers of a network as pictures: a canvas for each, and the unit that is looked at.

import { largest, paint, sized } from "./colours.js";

const GAP = 2; // CSS pixels between maps
const MAP = 56; // CSS pixels that a large map takes; more maps make them smaller
const NAMES = {
  "input": "prepared image",
  "convolution": "convolution", "subsampling": "subsampling", "average": "average pooling",
  "maximum": "max pooling", "full connection": "full connection", "distances": "distances to codes",
};

/** Where the maps of a layer stand: columns, units of how many pixels. */
function arrange(shape) {
  const [maps, height, width] = shape.length === 3 ? shape : [1, 1, shape[0]];
  if (height * width === 1 || shape.length === 1) {
    const count = maps * width * height;
    if (count <= 10) return { maps: 1, width: 1, height: count, columns: 1, unit: 17 };
    const columns = count === 84 ? 7 : Math.ceil(Math.sqrt(count * 0.8));
    const unit = Math.max(3, Math.min(count === 84 ? 11 : 9, Math.floor(120 / columns)));
    return { maps: 1, width: columns, height: Math.ceil(count / columns), columns: 1, unit, count };
  }
  const columns = maps === 1 ? 1 : maps <= 6 ? 2 : Math.ceil(Math.sqrt(maps));
  const side = maps === 1 ? 96 : columns <= 2 ? MAP : 32;
  return { maps, width, height, columns, unit: Math.max(1, Math.round(side / width)) };
}

class LayerView {
  constructor(layer, number, network) {
    this.layer = layer;
    this.number = number;
    this.network = network;
    this.form = arrange(layer.shape);
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
    const [maps, ...sides] = layer.shape;
    const size = sides.length && sides[0] > 1 ? `${maps}@${sides.join("×")}` : `${maps}`;
    const kind = document.createElement("span");
    kind.textContent = NAMES[layer.kind];
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

  choose(map, y, x, said = false) {
    const { count, width } = this.form;
    if (count && y * width + x >= count) return;
    this.network.choose({ number: this.number, map, y, x }, said);
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
    let values = activation.values;
    if (this.form.count && values.length < width * height) {
      values = new Float32Array(width * height);
      values.set(activation.values);
    }
    for (let map = 0; map < maps; map++) {
      const [x, y] = this.corner(map);
      paint(context, values, width, x, y, unit, most, map * width * height, width * height);
    }
  }

  corner(map) {
    const { width, height, columns, unit } = this.form;
    return [(map % columns) * (width * unit + GAP), Math.floor(map / columns) * (height * unit + GAP)];
  }

  /** Outlines rectangles of units [map, top, left, bottom, right] (bottom, right excluded). */
  mark(rectangles, colour) {
    const context = sized(this.marks, this.across, this.down);
    const { unit } = this.form;
    context.lineWidth = 2;
    context.strokeStyle = colour;
    const { maps, width, height } = this.form;
    const whole = ([, top, left, bottom, right]) => !top && !left && bottom === height && right === width;
    if (maps > 1 && rectangles.length === maps && rectangles.every(whole)) {
      context.strokeRect(1, 1, this.across - 2, this.down - 2);
      return;
    }
    for (const [map, top, left, bottom, right] of rectangles) {
      const [x, y] = this.corner(map);
      context.strokeRect(x + left * unit, y + top * unit, (right - left) * unit, (bottom - top) * unit);
    }
  }
}

/** The ten targets of LeNet-5, with the distance of F6 to each. */
class TargetView extends LayerView {
  build() {
    const figure = super.build();
    this.canvas.parentElement.hidden = true;
    figure.classList.add("targets");
    const list = document.createElement("ol");
    this.targets = [];
    const { values, shape } = this.layer.weights;
    for (let label = 0; label < shape[0]; label++) {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      const picture = document.createElement("canvas");
      const distance = document.createElement("span");
      button.append(picture, distance);
      button.addEventListener("pointerenter", () => this.choose(0, label, 0));
      button.addEventListener("focus", () => this.choose(0, label, 0, true));
      button.addEventListener("click", () => this.choose(0, label, 0, true));
      item.append(button);
      list.append(item);
      this.targets.push({ button, picture, distance, code: values.subarray(label * shape[1], (label + 1) * shape[1]) });
    }
    figure.insertBefore(list, this.range);
    return figure;
  }

  draw(activation) {
    const best = activation && activation.values.indexOf(Math.max(...activation.values));
    this.range.textContent = "squared distances of F6; the smallest answers";
    for (const [label, target] of this.targets.entries()) {
      paint(sized(target.picture, 28, 48), target.code, 7, 0, 0, 4, 1.4);
      target.distance.textContent = activation ? brief(-activation.values[label]) : "–";
      target.button.classList.toggle("best", label === best);
      const name = this.network.model.classes[label];
      target.button.setAttribute("aria-label", `target of ${name}, distance ${target.distance.textContent}`);
    }
  }

  mark(rectangles) {
    const chosen = rectangles.length === 1 ? rectangles[0][1] : -1;
    this.targets.forEach(({ button }, label) => button.classList.toggle("lit", label === chosen));
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
    const input = { name: "input", answers: "input", kind: "input", shape: model.input.shape };
    this.views = [input, ...model.layers].map((layer, number) =>
      layer.kind === "distances" ? new TargetView(layer, number, this) : new LayerView(layer, number, this));
    this.table = null;
    const partial = model.layers.findIndex((layer, i) =>
      layer.kind === "convolution" && i > 0 && layer.connections.some((c) => c.length < this.views[i].layer.shape[0]));
    if (partial >= 0) this.addTable(this.views[partial + 1], this.views[partial]);
    const output = this.views.at(-1);
    if (output.layer.kind !== "distances" && !output.form.count) this.addLabels(output);
    this.place.replaceChildren(...this.views.map((view) => view.element));
    this.show(null);
  }

  /** Table I of the paper: which maps a convolution reads. */
  addTable(view, before) {
    const table = document.createElement("table");
    table.className = "connections";
    const { connections } = view.layer;
    table.title = `Which maps of ${before.layer.name} (rows) each map (columns) reads`;
    table.setAttribute("aria-label", table.title);
    for (let input = 0; input < before.layer.shape[0]; input++) {
      const row = table.insertRow();
      connections.forEach((inputs, map) => {
        const cell = row.insertCell();
        cell.textContent = inputs.includes(input) ? "×" : "";
        cell.addEventListener("pointerenter", () => {
          const [, height, width] = view.layer.shape;
          view.choose(map, height >> 1, width >> 1);
        });
      });
    }
    view.element.append(table);
    this.table = { table, number: view.number, connections };
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

  /** The units of each earlier layer that the chosen one sees; the first entry is the input. */
  seen() {
    const { number, map, y, x } = this.chosen;
    const fields = new Array(number + 1);
    const layer = this.views[number].layer;
    const single = layer.shape.length === 1 || layer.shape[1] === 1;
    let [maps, top, left, bottom, right] = single ? [[0], 0, 0, 1, 1] : [[map], y, x, y + 1, x + 1];
    const own = this.views[number].form;
    fields[number] = single
      ? { maps: [0], top: y, left: x, bottom: y + 1, right: x + 1, unit: y * own.width + x }
      : { maps, top, left, bottom, right, unit: map };
    for (let i = number; i > 0; i--) {
      const { layer } = this.views[i];
      const before = this.views[i - 1];
      if (layer.kind === "full connection" || layer.kind === "distances") {
        const { height, width } = before.form;
        fields[i - 1] = { maps: [...Array(before.form.maps).keys()], top: 0, left: 0, bottom: height, right: width };
        if (before.layer.shape.length === 3 && before.layer.shape[1] > 1) [top, left, bottom, right] = [0, 0, ...before.layer.shape.slice(1)];
        else [top, left, bottom, right] = [0, 0, 1, 1];
        maps = [...Array(before.layer.shape[0]).keys()];
        continue;
      }
      const [sides, reach] = [before.layer.shape.slice(1), layer.window - layer.stride];
      top = top * layer.stride - layer.padding;
      left = left * layer.stride - layer.padding;
      bottom = bottom * layer.stride + reach - layer.padding;
      right = right * layer.stride + reach - layer.padding;
      if (layer.kind === "convolution") {
        const units = i === number ? [fields[number].unit] : maps;
        maps = [...new Set(units.flatMap((unit) => layer.connections[unit]))];
      }
      fields[i - 1] = {
        maps, top: Math.max(0, top), left: Math.max(0, left),
        bottom: Math.min(sides[0], bottom), right: Math.min(sides[1], right),
        corner: [top, left],
      };
    }
    return fields;
  }

  mark() {
    const colour = getComputedStyle(this.place).getPropertyValue("--accent");
    const fields = this.chosen ? this.seen() : [];
    this.views.forEach((view, i) => {
      const field = fields[i];
      view.mark(field ? field.maps.map((map) => [map, field.top, field.left, field.bottom, field.right]) : [], colour);
    });
    if (!this.table) return;
    const { table, number, connections } = this.table;
    const own = fields[number] && this.chosen.number === number ? this.chosen.map : -1;
    const source = this.chosen?.number === number - 1 ? this.chosen.map : -1;
    [...table.rows].forEach((row, input) => [...row.cells].forEach((cell, map) => {
      cell.classList.toggle("lit", map === own || input === source);
      cell.classList.toggle("on", (map === own || input === source) && connections[map].includes(input));
    }));
  }
}

/** A number in three significant digits or so, with a true minus. */
export function brief(value) {
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toFixed(digits).replace("-", "−");
}
