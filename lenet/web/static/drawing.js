// The drawing: strokes, or a picture, changed by the sliders; what is shown and what is sent.

import { inkPixel, sized } from "./colours.js";

const SIDE = 280; // height of the drawing, in its own units
const PEN = { digit: 22, number: 14 }; // width of a stroke, in the same units
const ASPECT = { digit: 1, number: 2.4 }; // width of the drawing over its height
const SENT = { digit: 140, number: 224 }; // height in pixels as it is sent: for a digit, five for each of the network's 28
const SENT_PICTURE = 448; // the same for a picture that was uploaded
const FIELD = 28;
const THICKEST = 0.045; // of the side: what the slider adds to each side of a stroke
const SAMPLE = {
  digit: [[
    [70, 96], [78, 72], [102, 52], [136, 46], [170, 56], [188, 82], [184, 116], [160, 148],
    [128, 178], [98, 206], [76, 230], [112, 226], [152, 228], [206, 230],
  ]],
  number: [
    [[178, 88], [194, 74], [196, 72], [192, 140], [188, 212]],
    [
      [310, 92], [294, 74], [268, 76], [254, 98], [258, 126], [278, 138], [300, 126], [312, 98],
      [312, 126], [306, 168], [292, 212],
    ],
    [
      [408, 92], [392, 74], [366, 76], [352, 98], [356, 126], [376, 138], [398, 126], [410, 98],
      [410, 126], [404, 168], [390, 212],
    ],
    [
      [488, 92], [470, 72], [444, 72], [432, 92], [442, 116], [466, 132], [484, 156], [480, 192],
      [456, 212], [430, 200], [422, 176], [438, 150], [464, 128], [484, 106], [488, 88],
    ],
  ],
};
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
    this.picture = null; // { image, file } or { image, pixels, label }: what lies under the strokes
    this.change = { ...UNCHANGED };
    this.startOver("digit");
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.go(event));
    canvas.addEventListener("pointerup", (event) => this.end(event));
    canvas.addEventListener("pointercancel", (event) => this.end(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.showPen(false));
  }

  /** Begins again with the sample of a "digit" or a "number", whose paper is wider. */
  startOver(what) {
    this.what = what;
    this.strokes = SAMPLE[what];
    this.sample = true;
    this.picture = null;
    this.pen = { x: this.width / 2, y: SIDE / 2, down: false, shown: false };
  }

  get width() {
    return SIDE * ASPECT[this.what];
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
    const scale = this.fit / SIDE;
    const [across, down] = [(width * scale * SIDE) / this.width, height * scale];
    return { x: (1 - across) / 2, y: (1 - down) / 2, width: across, height: down };
  }

  /** The drawing's units for each pixel of the picture. */
  get fit() {
    const { width, height } = this.picture.image;
    return Math.min(this.width / width, SIDE / height);
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
      this.pen.x = Math.max(0, Math.min(this.width, this.pen.x + step[0] * length));
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
      ((event.clientX - box.left) / box.width) * this.width,
      ((event.clientY - box.top) / box.height) * SIDE,
    ];
    const { x, y } = this.matrix(SIDE).inverse().transformPoint(new DOMPoint(...shown));
    return [x, y];
  }

  /** The geometric sliders, from the drawing's units to a picture `side` pixels high. */
  matrix(side) {
    const { across, down, turn, size } = this.change;
    return new DOMMatrix()
      .scale(side / SIDE)
      .translate((0.5 + across) * this.width, (0.5 + down) * SIDE)
      .rotate(turn)
      .scale(size)
      .translate(-this.width / 2, -SIDE / 2);
  }

  /** Draws black on white, or as the picture is, with the geometric sliders. */
  render(context, side, ink = "#000", paper = "#fff") {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = paper;
    context.fillRect(0, 0, context.canvas.width, side);
    const matrix = this.matrix(side);
    context.setTransform(matrix);
    if (this.picture) {
      const { width, height } = this.picture.image;
      const scale = this.fit;
      context.imageSmoothingEnabled = !this.picture.pixels || !this.untouched;
      context.imageSmoothingQuality = "high";
      context.drawImage(
        this.picture.image, (this.width - width * scale) / 2, (SIDE - height * scale) / 2,
        width * scale, height * scale,
      );
    }
    context.strokeStyle = ink;
    context.lineWidth = PEN[this.what];
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

  /** Grey levels of the changed drawing, `side` pixels high, ink dark; and their width. */
  grey(side) {
    this.work ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const { canvas } = this.work;
    const width = Math.round(side * ASPECT[this.what]);
    if (canvas.width !== width || canvas.height !== side) [canvas.width, canvas.height] = [width, side];
    this.render(this.work, side);
    const { data } = this.work.getImageData(0, 0, width, side);
    let grey = new Uint8Array(width * side);
    for (let i = 0; i < grey.length; i++) {
      grey[i] = (77 * data[4 * i] + 150 * data[4 * i + 1] + 29 * data[4 * i + 2]) >> 8;
    }
    const radius = Math.round(this.change.thick * THICKEST * side);
    if (radius) grey = spread(grey, width, radius);
    if (this.change.noise) addNoise(grey, width, this.change.noise);
    return { grey, width };
  }

  get side() {
    return this.picture?.file ? SENT_PICTURE : SENT[this.what];
  }

  /** What is sent: the file or test image itself if untouched, else the drawing's pixels. */
  sent(prepared) {
    if (prepared) {
      if (this.untouched && this.picture.file) return this.picture.file;
      const { grey, width } = this.grey(this.side);
      return greyFile(grey, width);
    }
    if (this.untouched && this.picture.pixels) return greyFile(this.picture.pixels, FIELD);
    const small = average(this.grey(this.side).grey, this.side);
    const paper = outlineMedian(small) > 127; // the network expects bright ink on black
    return greyFile(paper ? small.map((value) => 255 - value) : small, FIELD);
  }

  /** Shows the drawing in the theme's colours; photographs in their own. */
  show() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return;
    const context = sized(this.canvas, clientWidth, clientHeight);
    const style = getComputedStyle(this.canvas);
    const { thick, noise } = this.change;
    const { width, height } = this.canvas;
    if (thick || noise || this.picture?.pixels) {
      const { grey, width: across } = this.grey(this.side);
      const image = new ImageData(across, this.side);
      const shown = new Uint32Array(image.data.buffer);
      for (let i = 0; i < shown.length; i++) shown[i] = this.shade(grey[i]);
      this.work.putImageData(image, 0, 0);
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.imageSmoothingEnabled = !this.picture?.pixels || !this.untouched;
      context.drawImage(this.work.canvas, 0, 0, width, height);
    } else if (this.picture) {
      this.render(context, height);
    } else {
      const ink = style.getPropertyValue(this.sample ? "--sample" : "--ink");
      this.render(context, height, ink, style.getPropertyValue("--paper"));
    }
    if (this.pen.shown) {
      context.setTransform(this.matrix(height));
      context.beginPath();
      context.arc(this.pen.x, this.pen.y, PEN[this.what] / 2 + 2, 0, 7);
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
function spread(grey, width, radius) {
  const height = grey.length / width;
  const pick = radius > 0 ? Math.min : Math.max;
  const reach = Math.abs(radius);
  const rows = grey.slice();
  const out = grey.slice();
  // A disc of horizontal runs: for each row distance, the run's half length.
  const runs = Array.from({ length: reach + 1 }, (_, dy) => Math.round(Math.sqrt(reach * reach - dy * dy)));
  for (let dy = 0; dy <= reach; dy++) {
    const half = runs[dy];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        let value = grey[y * width + x];
        for (let u = Math.max(0, x - half); u <= Math.min(width - 1, x + half); u++) {
          value = pick(value, grey[y * width + u]);
        }
        rows[y * width + x] = value;
      }
    }
    for (const shift of dy ? [-dy, dy] : [0]) {
      for (let y = Math.max(0, -shift); y < Math.min(height, height - shift); y++) {
        for (let x = 0; x < width; x++) {
          const i = y * width + x;
          out[i] = pick(out[i], rows[i + shift * width]);
        }
      }
    }
  }
  return out;
}

/** Adds the same noise at every call, in grains as large as the network's pixels. */
function addNoise(grey, width, amount) {
  let state = 1998;
  const grain = grey.length / width / FIELD;
  const across = Math.ceil(width / grain);
  const grains = Float32Array.from({ length: FIELD * across }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  });
  for (let i = 0; i < grey.length; i++) {
    const noise = grains[Math.floor(Math.floor(i / width) / grain) * across + Math.floor((i % width) / grain)];
    grey[i] = Math.max(0, Math.min(255, grey[i] + 2 * amount * 255 * noise));
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
export function greyFile(grey, width) {
  return new Blob([`P5 ${width} ${grey.length / width} 255\n`, grey], { type: "image/x-portable-graymap" });
}
