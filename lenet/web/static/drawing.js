// The drawing: strokes, or a picture, changed by the sliders; what is shown and what is sent.

import { inkPixel, sized } from "./colours.js";

const SIDE = 280; // of the drawing, in its own units
const PEN = 22; // width of a stroke, in the same units
const SENT = 140; // pixels of a drawing as it is sent: five for each of the network's 28
const SENT_PICTURE = 448; // the same for a picture that was uploaded
const FIELD = 28;
const THICKEST = 0.045; // of the side: what the slider adds to each side of a stroke
const SAMPLE = [
  [70, 96], [78, 72], [102, 52], [136, 46], [170, 56], [188, 82], [184, 116], [160, 148],
  [128, 178], [98, 206], [76, 230], [112, 226], [152, 228], [206, 230],
];
export const UNCHANGED = { across: 0, down: 0, turn: 0, size: 1, thick: 0, noise: 0 };

export class Drawing {
  /**
   * `changed(finished)` is called after every change; finished: no stroke is under way.
   * `lifted()` is called when a stroke ends.
   */
  constructor(canvas, changed, lifted) {
    this.canvas = canvas;
    this.changed = changed;
    this.lifted = lifted;
    this.strokes = [SAMPLE];
    this.sample = true;
    this.picture = null; // { image, file } or { image, pixels, label }: what lies under the strokes
    this.change = { ...UNCHANGED };
    this.pen = { x: SIDE / 2, y: SIDE / 2, down: false, shown: false };
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.go(event));
    canvas.addEventListener("pointerup", (event) => this.end(event));
    canvas.addEventListener("pointercancel", (event) => this.end(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.showPen(false));
  }

  get empty() {
    return this.strokes.length === 0 && !this.picture;
  }

  /** Whether the test image or file is unchanged. */
  get untouched() {
    return this.picture && this.strokes.length === 0 &&
      Object.keys(UNCHANGED).every((name) => this.change[name] === UNCHANGED[name]);
  }

  /** The rectangle of the picture that is sent, in shares of the canvas. */
  get frame() {
    if (!(this.untouched && this.picture.file)) return { x: 0, y: 0, width: 1, height: 1 };
    const { width, height } = this.picture.image;
    const longer = Math.max(width, height);
    return {
      x: (1 - width / longer) / 2, y: (1 - height / longer) / 2,
      width: width / longer, height: height / longer,
    };
  }

  begin(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pointer = event.pointerId;
    this.startStroke(this.place(event));
  }

  go(event) {
    if (event.pointerId !== this.pointer) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) this.stroke.push(this.place(each));
    this.changed(false);
  }

  end(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.lifted();
  }

  startStroke(point) {
    if (this.sample) this.strokes = [];
    this.sample = false;
    this.stroke = [point];
    this.strokes.push(this.stroke);
    this.changed(false);
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (step) {
      const length = event.shiftKey ? 2 : 10;
      this.pen.x = Math.max(0, Math.min(SIDE, this.pen.x + step[0] * length));
      this.pen.y = Math.max(0, Math.min(SIDE, this.pen.y + step[1] * length));
      if (this.pen.down) this.stroke.push([this.pen.x, this.pen.y]);
      this.showPen(true);
      if (this.pen.down) this.changed(true);
    } else if (event.key === " ") {
      this.pen.down = !this.pen.down;
      if (this.pen.down) this.startStroke([this.pen.x, this.pen.y]);
      this.showPen(true);
      this.changed(true);
    } else if (event.key === "Backspace") {
      this.undo();
    } else if (event.key === "Delete") {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
  }

  showPen(shown) {
    this.pen.shown = shown;
    if (!shown) this.pen.down = false;
    this.show();
  }

  undo() {
    if (this.strokes.length) this.strokes.pop();
    else this.picture = null;
    this.pen.down = false;
    this.changed(true);
  }

  clear() {
    this.strokes = [];
    this.picture = null;
    this.sample = false;
    this.pen.down = false;
    this.changed(true);
  }

  /** Puts a file (a Blob) in place of the drawing. */
  async upload(file) {
    let image;
    try {
      image = await createImageBitmap(file);
    } catch {
      throw new Error("This browser cannot show that file. Use a PNG, JPEG, GIF, WebP or BMP picture.");
    }
    this.replace({ image, file });
  }

  /** Puts an image of the test set (28x28 bytes, ink bright) in place of the drawing. */
  take(pixels, label) {
    const image = document.createElement("canvas");
    image.width = image.height = FIELD;
    const context = image.getContext("2d");
    const data = context.createImageData(FIELD, FIELD);
    pixels.forEach((ink, i) => data.data.set([255 - ink, 255 - ink, 255 - ink, 255], 4 * i));
    context.putImageData(data, 0, 0);
    this.replace({ image, pixels, label });
  }

  replace(picture) {
    this.strokes = [];
    this.sample = false;
    this.picture = picture;
    this.changed(true);
  }

  /** Where on the unchanged drawing the pointer is. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const shown = [
      ((event.clientX - box.left) / box.width) * SIDE,
      ((event.clientY - box.top) / box.height) * SIDE,
    ];
    const { x, y } = this.matrix(SIDE).inverse().transformPoint(new DOMPoint(...shown));
    return [x, y];
  }

  /** The geometric sliders, from the drawing's units to a square of `side` pixels. */
  matrix(side) {
    const { across, down, turn, size } = this.change;
    return new DOMMatrix()
      .scale(side / SIDE)
      .translate((0.5 + across) * SIDE, (0.5 + down) * SIDE)
      .rotate(turn)
      .scale(size)
      .translate(-SIDE / 2, -SIDE / 2);
  }

  /** Draws black on white, or as the picture is, with the geometric sliders. */
  render(context, side, ink = "#000", paper = "#fff") {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = paper;
    context.fillRect(0, 0, side, side);
    const matrix = this.matrix(side);
    context.setTransform(matrix);
    if (this.picture) {
      const { width, height } = this.picture.image;
      const scale = SIDE / Math.max(width, height);
      context.imageSmoothingEnabled = !this.picture.pixels || !this.untouched;
      context.imageSmoothingQuality = "high";
      context.drawImage(
        this.picture.image, (SIDE - width * scale) / 2, (SIDE - height * scale) / 2,
        width * scale, height * scale,
      );
    }
    context.strokeStyle = ink;
    context.lineWidth = PEN;
    context.lineCap = context.lineJoin = "round";
    for (const points of this.strokes) {
      context.beginPath();
      context.moveTo(...points[0]);
      for (const [i, [x, y]] of points.entries()) {
        const [u, v] = points[i - 1] ?? [x, y];
        context.quadraticCurveTo(u, v, (u + x) / 2, (v + y) / 2);
      }
      context.lineTo(...points.at(-1));
      context.stroke();
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  /** Grey levels of the changed drawing, (side, side), ink dark. */
  grey(side) {
    this.work ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const { canvas } = this.work;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    this.render(this.work, side);
    const { data } = this.work.getImageData(0, 0, side, side);
    let grey = new Uint8Array(side * side);
    for (let i = 0; i < grey.length; i++) {
      grey[i] = (77 * data[4 * i] + 150 * data[4 * i + 1] + 29 * data[4 * i + 2]) >> 8;
    }
    const radius = Math.round(this.change.thick * THICKEST * side);
    if (radius) grey = spread(grey, side, radius);
    if (this.change.noise) addNoise(grey, side, this.change.noise);
    return grey;
  }

  get side() {
    return this.picture?.file ? SENT_PICTURE : SENT;
  }

  /** What is sent: the file or test image itself if untouched, else the drawing's pixels. */
  sent(prepared) {
    if (prepared) {
      if (this.untouched && this.picture.file) return this.picture.file;
      return greyFile(this.grey(this.side), this.side);
    }
    if (this.untouched && this.picture.pixels) return greyFile(this.picture.pixels, FIELD);
    const small = average(this.grey(this.side), this.side);
    const paper = outlineMedian(small) > 127; // the network expects bright ink on black
    return greyFile(paper ? small.map((value) => 255 - value) : small, FIELD);
  }

  /** Shows the drawing in the theme's colours; photographs in their own. */
  show() {
    const side = this.canvas.clientWidth;
    if (!side) return;
    const context = sized(this.canvas, side, side);
    const style = getComputedStyle(this.canvas);
    const { thick, noise } = this.change;
    const pixels = this.canvas.width;
    if (thick || noise || this.picture?.pixels) {
      const grey = this.grey(this.side);
      const image = new ImageData(this.side, this.side);
      const shown = new Uint32Array(image.data.buffer);
      for (let i = 0; i < shown.length; i++) shown[i] = this.shade(grey[i]);
      this.work.putImageData(image, 0, 0);
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.imageSmoothingEnabled = !this.picture?.pixels || !this.untouched;
      context.drawImage(this.work.canvas, 0, 0, pixels, pixels);
    } else if (this.picture) {
      this.render(context, pixels);
    } else {
      const ink = style.getPropertyValue(this.sample ? "--sample" : "--ink");
      this.render(context, pixels, ink, style.getPropertyValue("--paper"));
    }
    if (this.pen.shown) {
      context.setTransform(this.matrix(pixels));
      context.beginPath();
      context.arc(this.pen.x, this.pen.y, PEN / 2 + 2, 0, 7);
      context.lineWidth = 3;
      context.strokeStyle = style.getPropertyValue("--accent");
      context.setLineDash(this.pen.down ? [] : [5, 5]);
      context.stroke();
      context.setLineDash([]);
    }
  }

  shade(grey) {
    if (!this.picture?.file) return inkPixel(255 - grey);
    return ((255 << 24) | (grey << 16) | (grey << 8) | grey) >>> 0;
  }
}

/** Makes ink (dark) thicker by a radius in pixels, or thinner if it is negative. */
function spread(grey, side, radius) {
  const pick = radius > 0 ? Math.min : Math.max;
  const reach = Math.abs(radius);
  const rows = grey.slice();
  const out = grey.slice();
  // A disc of horizontal runs: for each row distance, the run's half length.
  const runs = Array.from({ length: reach + 1 }, (_, dy) => Math.round(Math.sqrt(reach * reach - dy * dy)));
  for (let dy = 0; dy <= reach; dy++) {
    const half = runs[dy];
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        let value = grey[y * side + x];
        for (let u = Math.max(0, x - half); u <= Math.min(side - 1, x + half); u++) {
          value = pick(value, grey[y * side + u]);
        }
        rows[y * side + x] = value;
      }
    }
    for (const shift of dy ? [-dy, dy] : [0]) {
      for (let y = Math.max(0, -shift); y < Math.min(side, side - shift); y++) {
        for (let x = 0; x < side; x++) {
          const i = y * side + x;
          out[i] = pick(out[i], rows[i + shift * side]);
        }
      }
    }
  }
  return out;
}

/** Adds the same noise at every call, in grains as large as the network's pixels. */
function addNoise(grey, side, amount) {
  let state = 1998;
  const grain = side / FIELD;
  const grains = Float32Array.from({ length: FIELD * FIELD }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  });
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const i = y * side + x;
      const noise = grains[Math.floor(y / grain) * FIELD + Math.floor(x / grain)];
      grey[i] = Math.max(0, Math.min(255, grey[i] + 2 * amount * 255 * noise));
    }
  }
}

/** Averages (side, side) down to 28x28. */
function average(grey, side) {
  const block = side / FIELD;
  const sums = new Float32Array(FIELD * FIELD);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      sums[Math.floor(y / block) * FIELD + Math.floor(x / block)] += grey[y * side + x];
    }
  }
  return Uint8Array.from(sums, (sum) => Math.round(sum / (block * block)));
}

function outlineMedian(small) {
  const edge = [];
  for (let i = 0; i < FIELD; i++) {
    edge.push(small[i], small[FIELD * (FIELD - 1) + i], small[FIELD * i], small[FIELD * i + FIELD - 1]);
  }
  return edge.sort((a, b) => a - b)[edge.length >> 1];
}

/** A picture file of grey pixels (PGM): the fastest there is to write and to read. */
function greyFile(grey, side) {
  return new Blob([`P5 ${side} ${side} 255\n`, grey], { type: "image/x-portable-graymap" });
}
