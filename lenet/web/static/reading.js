// A number on its way through the reader: each line with its cuts, and the graph of its segments.

import { paintPicture } from "./colours.js";

const SCALE = { least: 1.4, most: 2.2, alone: 3 }; // CSS pixels for each of a line's

/** What the network says of a segment, in words. */
export function words({ probabilities, read }) {
  const ranked = Object.entries(probabilities).sort((a, b) => b[1] - a[1]).slice(0, 3);
  const shares = ranked.map(([name, share]) => `${name} ${(100 * share).toFixed(1)}%`).join(", ");
  const place = read === null ? "" : read === "" ? " On the best path it is left out." : ` On the best path it is read as ${read}.`;
  return `This segment: ${shares}.${place}`;
}

export class Graph {
  /** `choose(segment)` is called when a segment is chosen. */
  constructor(place, choose) {
    this.place = place;
    this.choose = choose;
    this.lines = null;
  }

  /** Shows the lines of a reading, and which segment is looked at. */
  show(lines, chosen) {
    if (lines !== this.lines) {
      this.buttons = new Map();
      this.place.replaceChildren(...lines.map((line) => this.draw(line, lines.length > 1 ? SCALE.most : SCALE.alone)));
      this.lines = lines;
    }
    for (const [segment, button] of this.buttons) button.setAttribute("aria-pressed", String(segment === chosen));
  }

  draw(line, scale) {
    const figure = document.createElement("figure");
    figure.className = "written";
    figure.style.width = `${scale * line.ink.width}px`;
    figure.style.minWidth = `${SCALE.least * line.ink.width}px`;
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    paintPicture(canvas, line.ink, true);
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(this.place).getPropertyValue("--accent");
    for (const cut of line.cuts) cut.forEach((x, y) => context.fillRect(x, y, 0.5, 1));
    figure.append(canvas, this.arcs(line));
    return figure;
  }

  /** The graph: its nodes lie between columns, each arc reaches from one to another. */
  arcs({ ink, nodes, segments }) {
    const arcs = document.createElement("div");
    arcs.className = "arcs";
    const columns = [0, ...nodes, ink.width];
    arcs.style.gridTemplateColumns = columns.slice(1).map((x, i) => `minmax(0, ${x - columns[i]}fr)`).join(" ");
    const filled = []; // the node up to which each row is
    const shortFirst = [...segments].sort((a, b) => a.ends[1] - a.ends[0] - (b.ends[1] - b.ends[0]));
    for (const segment of shortFirst) {
      const [first, last] = segment.ends;
      const free = filled.findIndex((node) => node <= first);
      const row = free < 0 ? filled.length : free;
      filled[row] = last;
      arcs.append(this.arc(segment, row + 1));
    }
    return arcs;
  }

  arc(segment, row) {
    const { ends: [first, last], probabilities, read } = segment;
    const digits = Object.entries(probabilities).filter(([name]) => name.length === 1);
    const [digit, share] = digits.reduce((best, each) => (each[1] > best[1] ? each : best));
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = read === "" ? "·" : read ?? (share > 0.02 ? digit : "");
    button.style.gridColumn = `${first + 2} / ${last + 2}`;
    button.style.gridRow = row;
    button.style.setProperty("--share", `${Math.round(100 * share)}%`);
    if (read !== null) button.className = read ? "lit" : "lit left-out";
    button.setAttribute("aria-label", `from node ${first} to ${last}: ${words(segment)}`);
    button.addEventListener("click", () => this.choose(segment));
    this.buttons.set(segment, button);
    return button;
  }
}
