// The page: what is drawn goes to the server, and its answer to every part of the page.

import { paintPicture, pixel, readColours } from "./colours.js";
import { Drawing, UNCHANGED, greyFile } from "./drawing.js";
import { explain } from "./explain.js";
import { Network, pools } from "./network.js";
import { Graph, words } from "./reading.js";
import * as service from "./service.js";

const $ = (id) => document.getElementById(id);
const percent = (share) => (share > 0.9995 && share < 1 ? ">99.9%" : `${(100 * share).toFixed(1)}%`);

let model = null; // the chosen one, with its weights
let trace = null; // the last one
let underWay = 0; // requests
let latest = null; // the last of them: { finished }
let waiting = null; // the next request: only the latest
let pointerUp = null; // when the pen was lifted, until the page shows it

const drawing = new Drawing($("drawing"), changed, lifted);
export const network = new Network($("layers"), (chosen, said) => showUnit(said));
const graph = new Graph($("lines"), look);

// Asking

/** Called after every change of the input; finished: the page may announce the answer. */
function changed(finished) {
  if (finished) pointerUp ??= performance.now();
  drawing.show();
  showField();
  ask(finished);
}

/** Called when the pen is lifted: nothing has changed, but the stroke is finished. */
function lifted() {
  pointerUp ??= performance.now();
  if (waiting) ask(true);
  else if (latest) latest.finished = true;
  else shown();
}

/**
 * Asks about the drawing as it is now. While an answer is awaited only the latest drawing waits;
 * a finished one does not: two questions may be under way.
 */
function ask(finished) {
  waiting = { finished: finished || Boolean(waiting?.finished) };
  if (underWay === 0 || (waiting.finished && underWay === 1)) askNext();
}

async function askNext() {
  underWay += 1;
  while (waiting && model) {
    const question = waiting;
    waiting = null;
    latest = question;
    const { name } = model;
    try {
      const answer = drawing.empty ? null : await follow(name);
      // A late answer to an older request is not shown.
      if (name === model.name && question === latest) show(answer, question.finished);
      say("");
    } catch (error) {
      say(error.message);
    }
    if (question === latest) latest = null;
  }
  underWay -= 1;
}

/** Sends the drawing; returns its trace and where the sent picture lies on the canvas. */
async function follow(name) {
  const { frame } = drawing;
  if (model.segments) {
    const reading = await service.read(drawing.sent(true));
    const segments = reading.lines.flatMap((line) => line.segments);
    const segment = segments.find(({ read }) => read) ?? segments[0];
    return { ...reading, frame, ...(await layersOf(segment)) };
  }
  const prepared = $("prepare").checked;
  const answer = await service.trace(name, drawing.sent(prepared), prepared ? "auto" : "none");
  return { ...answer, frame };
}

/** A segment of a number, and what every layer answers to it. */
async function layersOf(segment) {
  const picture = segment && greyFile(segment.image.data, segment.image.width);
  return { segment, layers: picture ? (await service.trace(model.name, picture, "none")).layers : new Map() };
}

/** Shows another segment of the same number. */
async function look(segment) {
  const { answer } = trace;
  try {
    const layers = await layersOf(segment);
    if (trace?.answer !== answer) return;
    show({ ...trace, ...layers }, false);
    $("graph-live").textContent = words(segment);
  } catch (error) {
    say(error.message);
  }
}

// Showing

function show(latestTrace, finished) {
  trace = latestTrace;
  if (model.segments) showNumbers(trace);
  else showAnswer(trace?.answer);
  showSteps(trace?.steps ?? []);
  network.show(trace?.layers.size ? trace.layers : null);
  if (network.layers && !network.chosen) network.choose(firstUnit());
  else showUnit(false);
  if (finished) shown();
}

/** Tells screen readers what is shown, and records how long it took. */
function shown() {
  announce(trace?.answer);
  if (pointerUp === null) return;
  const start = pointerUp;
  pointerUp = null;
  // A message posted from an animation frame comes when the frame has been drawn.
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => performance.measure("pointer-up to page", { start });
    port2.postMessage(null);
  });
}

function showAnswer(answer) {
  const ranked = Object.entries(answer?.probabilities ?? {}).sort((a, b) => b[1] - a[1]);
  const label = $("label");
  label.textContent = answer?.label ?? "–";
  label.classList.toggle("word", label.textContent.length > 2);
  $("answer").classList.toggle("unsure", Boolean(answer?.rejected));
  if (!answer) {
    $("trust").textContent = "Nothing drawn yet.";
    $("second").textContent = "";
  } else if (answer.label === null) {
    $("trust").textContent = capital(answer.reason);
    $("second").textContent = "";
  } else {
    $("trust").replaceChildren(...trustWords(answer));
    $("second").textContent = `Second guess: ${ranked[1][0]}, ${percent(ranked[1][1])}`;
  }
  const { label: truth } = drawing.picture ?? {};
  $("truth").textContent = truth === undefined ? "" : `The test set says ${truth}.`;
  $("truth").classList.toggle("wrong", truth !== undefined && answer?.label !== truth);
  barred().forEach((name, i) => {
    const row = $("bars").children[i];
    const share = answer?.probabilities[name] ?? 0;
    row.querySelector("meter").value = share;
    row.querySelector("output").textContent = answer?.label == null ? "" : percent(share);
    row.classList.toggle("best", name === answer?.label);
  });
}

function showNumbers(trace) {
  const { numbers, reason } = trace?.answer ?? { numbers: [], reason: null };
  const sure = numbers.filter(({ rejected }) => !rejected).length;
  const label = $("label");
  label.textContent = numbers.map((number) => number.written || "–").join("  ") || "–";
  label.classList.remove("word");
  $("answer").classList.toggle("unsure", sure < numbers.length);
  $("truth").textContent = "";
  $("second").textContent = "";
  if (!trace) $("trust").textContent = "Nothing drawn yet.";
  else if (!numbers.length) $("trust").textContent = capital(reason);
  else if (numbers.length > 1) $("trust").textContent = `${numbers.length} numbers, ${sure} of them sure.`;
  else {
    const strong = document.createElement("b");
    strong.textContent = capital(numbers[0].reason ?? "sure");
    $("trust").replaceChildren(strong);
    if (numbers[0].text) $("trust").append(` The probability that all of it is right is ${percent(numbers[0].confidence)}.`);
    const separators = numbers[0].separators.map(({ symbol }) => symbol).join(" ");
    $("second").textContent = separators && `Separators: ${separators}`;
  }
  const rows = numbers.flatMap((number) =>
    [[number.written || number.reason, number.confidence, true], ...number.alternatives.map((other) => [...other, false])]);
  $("bars").replaceChildren(...rows.slice(0, 12).map(([text, share, best]) => {
    const row = bar(text);
    row.querySelector("meter").value = share;
    row.querySelector("output").textContent = percent(share);
    row.classList.toggle("best", best);
    return row;
  }));
  $("graph-words").textContent = trace?.segment ? words(trace.segment) : "";
  graph.show(trace?.lines ?? [], trace?.segment);
}

/** The classes that have probabilities: all but that of what is no digit. */
function barred() {
  return model.classes.filter((name) => name !== "none");
}

function trustWords(answer) {
  const scores = [...trace.layers.get(model.layers.at(-1).answers).values].sort((a, b) => b - a);
  const margin = (scores[0] - scores[1]).toFixed(1);
  const strong = document.createElement("b");
  strong.textContent = answer.rejected ? "Not sure." : "Sure.";
  const { rejection_threshold: threshold, trusted_error: wrong } = model;
  if (threshold === null) return [strong, " This model has no measured threshold, so no answer is trusted."];
  const measured = wrong === null
    ? "answers are trusted"
    : `${(100 * wrong).toFixed(2)}% of the test set’s answers are wrong`;
  const words = ` Best and second score are ${margin} apart; from ${threshold.toFixed(1)} on, ${measured}.`;
  return [strong, words];
}

function showSteps(steps) {
  $("steps").replaceChildren(...steps.map((step) => {
    const item = document.createElement("li");
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    paintPicture(canvas, step, step.name !== "grayscale"); // all others are bright ink on black
    item.append(canvas, step.name.replace("x", "×"));
    return item;
  }));
}

function showUnit(said) {
  if (!network.chosen) return;
  network.mark();
  explain(network, $("unit-words"), $("arithmetic"), said ? $("unit-live") : document.createElement("p"));
  showField();
}

/** The chosen unit's receptive field, on the drawing. */
function showField() {
  const canvas = $("drawing-marks");
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * density);
  canvas.height = Math.round(canvas.clientHeight * density);
  if (!trace) return;
  const { frame } = trace;
  const x = (share) => (frame.x + share * frame.width) * canvas.width;
  const y = (share) => (frame.y + share * frame.height) * canvas.height;
  const context = canvas.getContext("2d");
  const outline = (left, top, right, bottom, colour, width) => {
    context.strokeStyle = getComputedStyle(canvas).getPropertyValue(colour);
    context.lineWidth = width * density;
    context.strokeRect(x(left), y(top), x(right) - x(left), y(bottom) - y(top));
  };
  if (trace.size) {
    const [across, down] = trace.size;
    const box = ([left, top, right, bottom]) => [left / across, top / down, right / across, bottom / down];
    for (const number of trace.answer.numbers) {
      const colour = number.rejected ? "--doubt" : "--muted";
      outline(...box(number.box), colour, 2);
      for (const digit of number.digits) outline(...box(digit.box), colour, 0.75);
    }
    if (trace.segment) outline(...box(trace.segment.box), "--accent", 2);
  }
  if (!network.chosen || !trace.placement) return;
  const { top, left, bottom, right } = network.seen()[0];
  const { offset, scale } = model.input;
  const { box, field } = trace.placement;
  const across = (x) => box[0] + (((x - offset) / scale - field[0]) / (field[2] - field[0])) * (box[2] - box[0]);
  const down = (y) => box[1] + (((y - offset) / scale - field[1]) / (field[3] - field[1])) * (box[3] - box[1]);
  outline(across(left), down(top), across(right), down(bottom), "--accent", 2);
}

/** Chooses a unit to show at first: the most active one of the first layer whose
 * windows lie in several maps, or else of the last layer. */
function firstUnit() {
  const { layer, number, form } = network.views.find((view, i) =>
    i && view.layer.window > 1 && !pools(view.layer) && network.views[i - 1].layer.shape[0] > 1) ?? network.views.at(-1);
  const { values } = network.layers.get(layer.answers);
  const best = values.reduce((most, value, i) => (value > values[most] ? i : most), 0);
  const size = form.width * form.height;
  const inside = best % size;
  return { number, map: Math.floor(best / size), y: Math.floor(inside / form.width), x: inside % form.width };
}

function announce(answer) {
  if (!answer) $("live").textContent = "Nothing drawn.";
  else if (model.segments) $("live").textContent = `${$("label").textContent}. ${$("trust").textContent}`;
  else if (answer.label === null) $("live").textContent = answer.reason;
  else $("live").textContent = `${answer.label}. ${answer.rejected ? "Not sure." : "Sure."} ${$("second").textContent}`;
}

function say(words) {
  $("status").textContent = words;
}

function capital(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}.`;
}

function showLegend() {
  const context = $("legend").getContext("2d");
  const image = context.createImageData(129, 1);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < 129; i++) pixels[i] = pixel(i - 64, 64);
  context.putImageData(image, 0, 0);
}

function redraw() {
  readColours();
  showLegend();
  drawing.show();
  if (model) show(trace, false);
}

// Choosing

async function choose(name) {
  try {
    model = await service.model(name);
  } catch (error) {
    say(error.message);
    return;
  }
  const error = model.test_error === null ? "" : ` · ${(100 * model.test_error).toFixed(2)}% test error`;
  $("card").textContent = `${model.network} · ${model.parameters.toLocaleString("en")} parameters${error}` +
    (model.data ? ` · ${model.data}` : "");
  document.title = `${name}: watch a network read`;
  const what = model.segments ? "number" : "digit";
  if (drawing.what !== what) {
    drawing.startOver(what);
    document.querySelector("main").classList.toggle("numbers", model.segments);
    document.querySelector(".graph").hidden = !model.segments;
    drawing.show();
  }
  $("bars").replaceChildren(...barred().map(bar));
  $("bars").classList.toggle("words", barred().some((label) => label.length > 2));
  $("prepare").nextElementSibling.textContent =
    model.preprocessing === "digit" ? "Find, crop and centre it first" : "Fit it into 28×28 first";
  const separate = model.layers.some((layer) => layer.answers !== layer.name);
  $("sums").hidden = !separate;
  network.sums = separate && $("sums").querySelector(":checked").value === "before";
  network.build(model);
  $("unit-words").textContent = "Point at a unit, or move to a layer with Tab and to a unit with the arrow keys.";
  $("arithmetic").replaceChildren();
  trace = null;
  showField();
  ask(false);
}

/** A row of the probabilities. */
function bar(label) {
  const row = document.createElement("li");
  const word = document.createElement("span");
  word.textContent = label;
  const meter = document.createElement("meter");
  meter.max = 1;
  meter.setAttribute("aria-label", `probability of ${label}`);
  row.append(word, meter, document.createElement("output"));
  return row;
}

function takeExample(example) {
  $("prepare").checked = false;
  drawing.take(example.image.data, example.label);
}

async function upload(file) {
  try {
    $("prepare").checked = true;
    await drawing.upload(file);
  } catch (error) {
    say(error.message);
  }
}

/** Whether the model's test set is at hand; says so if not. */
function testSet() {
  if (!model.examples) {
    const name = model.data === "digits" ? "mnist" : model.data ?? "NAME";
    say(`The test set is not on this machine. Get it with: lenet data ${name}; then start the server again.`);
  }
  return model.examples;
}

async function listMistakes() {
  if (!testSet()) return;
  try {
    say("Looking through the test set …");
    const { errors, images, mistakes } = await service.mistakes(model.name);
    say("");
    $("hardest-words").textContent =
      `${errors} of ${images.toLocaleString("en")} test images are misread. The worst mistakes, as true class → answer:`;
    $("hardest-list").replaceChildren(...mistakes.map((mistake) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      const canvas = document.createElement("canvas");
      paintPicture(canvas, mistake.image, true);
      button.append(canvas, `${mistake.label} → ${mistake.answer}`);
      button.addEventListener("click", () => {
        $("hardest").close();
        takeExample(mistake);
      });
      item.append(button);
      return item;
    }));
    $("hardest").showModal();
  } catch (error) {
    say(error.message);
  }
}

const WORDS = {
  across: (v) => `${Math.round(100 * v)}%`, down: (v) => `${Math.round(100 * v)}%`,
  turn: (v) => `${v}°`, size: (v) => `${v.toFixed(2)}×`,
  thick: (v) => `${Math.round(100 * v)}%`, noise: (v) => `${Math.round(100 * v)}%`,
};

function slide() {
  for (const name of Object.keys(UNCHANGED)) {
    const slider = $(name);
    drawing.change[name] = slider.valueAsNumber;
    const words = WORDS[name](slider.valueAsNumber).replace("-", "−");
    slider.nextElementSibling.textContent = words;
    slider.setAttribute("aria-valuetext", words);
  }
}

// Wiring

for (const name of Object.keys(UNCHANGED)) {
  $(name).addEventListener("input", () => {
    slide();
    changed(false);
  });
  $(name).addEventListener("change", () => changed(true));
}
$("reset").addEventListener("click", () => {
  for (const [name, value] of Object.entries(UNCHANGED)) $(name).value = value;
  slide();
  changed(true);
});
$("undo").addEventListener("click", () => drawing.undo());
$("clear").addEventListener("click", () => {
  $("prepare").checked = true;
  drawing.clear();
});
$("prepare").addEventListener("change", () => changed(true));
$("sums").addEventListener("change", () => {
  network.sums = $("sums").querySelector(":checked").value === "before";
  network.show(network.layers);
});
$("random").addEventListener("click", async () => {
  if (!testSet()) return;
  try {
    takeExample(await service.randomExample(model.name));
  } catch (error) {
    say(error.message);
  }
});
$("mistakes").addEventListener("click", listMistakes);
$("file").addEventListener("change", () => {
  if ($("file").files[0]) upload($("file").files[0]);
  $("file").value = "";
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) upload(file);
  else say("The clipboard holds no picture.");
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
  else say("What you dropped is not a picture.");
});

const dark = matchMedia("(prefers-color-scheme: dark)");
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = theme === "dark" ? "light" : "dark";
  $("theme").setAttribute("aria-pressed", String(theme === "dark"));
  redraw();
}
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
$("theme").addEventListener("click", () =>
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
new ResizeObserver(() => {
  drawing.show();
  showField();
}).observe($("drawing").parentElement);

setTheme(dark.matches ? "dark" : "light");
slide();
try {
  const here = await service.models();
  for (const [i, { name }] of here.entries()) {
    const label = document.createElement("label");
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "model", value: name, checked: i === 0 });
    radio.addEventListener("change", () => choose(name));
    const word = document.createElement("span");
    word.textContent = name;
    label.append(radio, word);
    $("models").append(label);
  }
  await choose(here[0].name);
} catch (error) {
  say(error.message);
}
