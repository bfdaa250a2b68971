// Colours of values: a diverging scale with zero in the middle, from the style sheet.

const STEPS = 256;
let scale = null; // 2 * STEPS + 1 colours as RGBA in one number, for Uint32Array pixels
let shades = null; // the same for ink, 0..255

/** Reads the colours of the theme; call it when the theme changes. */
export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const [negative, zero, positive, paper, ink] = ["negative", "zero", "positive", "paper", "ink"].map(
    (name) => rgb(style.getPropertyValue(`--${name}`)),
  );
  scale = new Uint32Array(2 * STEPS + 1);
  for (let i = -STEPS; i <= STEPS; i++) {
    scale[i + STEPS] = mix(zero, i < 0 ? negative : positive, (Math.abs(i) / STEPS) ** 0.8);
  }
  shades = new Uint32Array(256);
  for (let i = 0; i < 256; i++) shades[i] = mix(paper, ink, i / 255);
}

/** The pixel of a value where `most` is the end of the scale. */
export function pixel(value, most) {
  const share = most > 0 ? Math.max(-1, Math.min(1, value / most)) : 0;
  return scale[Math.round(share * STEPS) + STEPS];
}

/** The pixel of ink 0..255 on the theme's paper. */
export const inkPixel = (value) => shades[value];

export function largest(values) {
  let most = 0;
  for (const value of values) most = Math.max(most, Math.abs(value));
  return most;
}

/** Draws values (rows of `width`) as squares of `unit` CSS pixels at (x, y). */
export function paint(context, values, width, x, y, unit, most, offset = 0, count = values.length) {
  const height = count / width;
  const small = scratch(width, height);
  const image = small.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < count; i++) pixels[i] = pixel(values[offset + i], most);
  small.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small.canvas, 0, 0, width, height, x, y, width * unit, height * unit);
}

/** Draws a grey picture in the theme's ink on the whole canvas; `bright` is the ink. */
export function paintPicture(canvas, picture, bright) {
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(picture.width, picture.height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = inkPixel(bright ? picture.data[i] : 255 - picture.data[i]);
  }
  context.putImageData(image, 0, 0);
}

/** Sets a canvas to a size in CSS pixels, sharp on any screen; gives its cleared context. */
export function sized(canvas, width, height) {
  const density = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * density), Math.round(height * density)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

let drawer = null;
function scratch(width, height) {
  drawer ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  if (drawer.canvas.width < width) drawer.canvas.width = width;
  if (drawer.canvas.height < height) drawer.canvas.height = height;
  return drawer;
}

function mix(from, to, share) {
  const [r, g, b] = from.map((value, i) => Math.round(value + (to[i] - value) * share));
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

function rgb(text) {
  const number = parseInt(text.trim().slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}
