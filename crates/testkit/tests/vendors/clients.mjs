// The vendors' own clients against a server: each asks once over each of its APIs and says what it understood.
// usage: node clients.mjs FOLDER_OF_NODE_MODULES BASE_URL
import { createRequire } from "node:module";

const [folder, base] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const OpenAI = require("openai").default;
const Anthropic = require("@anthropic-ai/sdk").default;

const prompt = "Say something.";
const parameters = { type: "object", properties: { cmd: { type: "string" } }, required: ["cmd"] };

async function responses() {
  const client = new OpenAI({ apiKey: "sk-key", baseURL: base, maxRetries: 0 });
  const stream = client.responses.stream({
    model: "m",
    input: [{ role: "user", content: prompt }],
    tools: [{ type: "function", name: "f", parameters, strict: false }],
  });
  const answer = await stream.finalResponse();
  const call = answer.output.find((item) => item.type === "function_call");
  return {
    text: answer.output_text,
    thought: answer.output.find((item) => item.type === "reasoning").summary[0].text,
    call: { name: call.name, arguments: JSON.parse(call.arguments) },
    input_tokens: answer.usage.input_tokens,
    end: answer.status,
  };
}

async function chat() {
  const client = new OpenAI({ apiKey: "sk-key", baseURL: base, maxRetries: 0 });
  const stream = client.chat.completions.stream({
    model: "m",
    messages: [{ role: "user", content: prompt }],
    tools: [{ type: "function", function: { name: "f", parameters } }],
    stream_options: { include_usage: true },
  });
  const answer = await stream.finalChatCompletion();
  const { message, finish_reason } = answer.choices[0];
  const { name, arguments: text } = message.tool_calls[0].function;
  return {
    text: message.content,
    thought: message.reasoning_content ?? null,
    call: { name, arguments: JSON.parse(text) },
    input_tokens: answer.usage.prompt_tokens,
    end: finish_reason,
  };
}

async function messages() {
  const client = new Anthropic({ apiKey: "sk-key", baseURL: base.replace(/\/v1$/, ""), maxRetries: 0 });
  const stream = client.messages.stream({
    model: "m",
    max_tokens: 1000,
    messages: [{ role: "user", content: prompt }],
    tools: [{ name: "f", input_schema: parameters }],
  });
  const answer = await stream.finalMessage();
  const block = (type) => answer.content.find((one) => one.type === type);
  return {
    text: block("text").text,
    thought: block("thinking").thinking,
    call: { name: block("tool_use").name, arguments: block("tool_use").input },
    input_tokens: answer.usage.input_tokens,
    end: answer.stop_reason,
  };
}

/** How a client puts an error: by its class and its status. */
async function refused(ask) {
  try {
    await ask();
    return "no error";
  } catch (error) {
    return `${error.constructor.name} ${error.status}`;
  }
}

const wrong = { apiKey: "wrong", maxRetries: 0 };
const say = [{ role: "user", content: prompt }];
const openai = new OpenAI({ ...wrong, baseURL: base });
const anthropic = new Anthropic({ ...wrong, baseURL: base.replace(/\/v1$/, "") });
const refusals = [
  await refused(() => openai.responses.create({ model: "m", input: say, stream: true })),
  await refused(() => openai.chat.completions.create({ model: "m", messages: say, stream: true })),
  await refused(() => anthropic.messages.create({ model: "m", max_tokens: 9, messages: say, stream: true })),
];
const said = { responses: await responses(), chat: await chat(), messages: await messages(), refusals };
console.log(JSON.stringify(said));
