// The REST interface, as the page uses it.

export async function models() {
  return (await ask("v1/models")).models;
}

/** A model with its layers; kernels and biases become Float32Arrays. */
export async function model(name) {
  const model = await ask(`v1/models/${encodeURIComponent(name)}`);
  for (const layer of model.layers) {
    layer.kernels = layer.kernels && { shape: layer.kernels.shape, values: floats(layer.kernels.data) };
    layer.biases = layer.biases && floats(layer.biases.data);
  }
  return model;
}

/** Follows one picture (a Blob) through the network: layers by name, pixels as bytes. */
export async function trace(name, picture, preprocessing) {
  const body = new FormData();
  body.append("images", picture, "picture");
  const query = new URLSearchParams({ model: name, preprocessing });
  const trace = await ask(`v1/trace?${query}`, { method: "POST", body });
  trace.layers = new Map(
    trace.layers.map(({ name, shape, data }) => [name, { shape, values: floats(data) }]),
  );
  trace.steps = trace.steps.map(pixels);
  return trace;
}

/** Follows one picture (a Blob) through the reader of numbers: lines with their segments. */
export async function read(picture) {
  const body = new FormData();
  body.append("images", picture, "picture");
  const trace = await ask("v1/read/trace", { method: "POST", body });
  for (const line of trace.lines) {
    line.ink = pixels(line.ink);
    for (const segment of line.segments) segment.image = pixels(segment.image);
  }
  return trace;
}

export async function randomExample(name) {
  const example = await ask(`v1/examples/random?${new URLSearchParams({ model: name })}`);
  return { ...example, image: pixels(example.image) };
}

export async function mistakes(name) {
  const answer = await ask(`v1/examples/mistakes?${new URLSearchParams({ model: name })}`);
  return { ...answer, mistakes: answer.mistakes.map((m) => ({ ...m, image: pixels(m.image) })) };
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is `lenet serve` still running?");
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.detail ?? `${response.status} ${response.statusText}`);
  }
  return response.json();
}

function pixels(picture) {
  return { ...picture, data: bytes(picture.data) };
}

function floats(text) {
  return new Float32Array(bytes(text).buffer);
}

function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const array = new Uint8Array(characters.length);
  for (let i = 0; i < array.length; i++) array[i] = characters.charCodeAt(i);
  return array;
}
