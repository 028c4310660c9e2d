// A small transformer: rows of a table, weighed by blocks that see the whole text, in the core as in Python, to the bit.

import { buildBlocks } from "./blocks.js";
import { buildTable } from "./core.js";
import { layOut } from "./layout.js";
import { damaged, fail, quote } from "./nest.js";

const MOST_TOKENS = 65_536; // of a text
const BODY = "body."; // before the names of the weights
const BESIDE = /^(graph$|body\.)/; // tensors that are not the table's; the graph is for other runtimes

/** Hands what a file holds to the core. checkOthers: of tensors that are not needed here. */
export function buildTransformer(core, document, tensors, checkOthers) {
  if (!core.has("blocks_ready"))
    fail(
      "A nestling.wasm without transformers was given.",
      "This model needs nestling-transformer.wasm.",
      "Pass that one as wasm, or none.",
    );
  checkTasks(document);
  const body = new Map();
  const own = new Map([...tensors].filter(([name]) => !BESIDE.test(name)));
  for (const [name, tensor] of tensors) if (name.startsWith(BODY)) body.set(name.slice(BODY.length), tensor);
  const layout = layOut({ scheme: document.scheme, dim: document.inner }, own);
  checkOthers(document, own, layout.size);
  for (const id of Object.values(document.task_tokens))
    if (id >= layout.size) damaged(`the task's id ${id} and a table of ${layout.size} rows`);
  buildTable(core, layout, document);
  const vector = buildBlocks(core, body, document.inner, document.head, document.max_tokens);
  if (vector < document.dim) damaged(`blocks that give ${vector} columns, and dim ${document.dim}`);
}

function checkTasks({ inner, head, max_tokens: most, prompts, task_tokens: tokens, routes }) {
  if (!inner || !head || most === null || most < 2 || most > MOST_TOKENS)
    damaged(`a transformer without inner, head, or a limit of 2 to ${MOST_TOKENS} tokens`);
  if (Object.keys(tokens).some((task) => Object.hasOwn(prompts, task))) damaged("a task with a prompt and a token");
  for (const [role, task] of Object.entries(routes))
    if (!["query", "document", "text"].includes(role) || !(Object.hasOwn(tokens, task) || Object.hasOwn(prompts, task)))
      damaged(`a route of ${quote(role)} to ${quote(task)}`);
}
