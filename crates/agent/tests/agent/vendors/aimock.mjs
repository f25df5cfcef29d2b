// A model server that others wrote, with a conversation of two commands and an answer. It prints where it is, and ends
// when its input does. usage: node aimock.mjs FOLDER_OF_NODE_MODULES CHAOS_AS_JSON
import { createRequire } from "node:module";

const [folder, chaos] = process.argv.slice(2);
const { LLMock } = createRequire(`${folder}/`)("@copilotkit/aimock");

const mock = new LLMock({ port: 0, logLevel: "silent" });
const prompt = "Please count to two.";
const command = (id, cmd) => ({ id, name: "exec_command", arguments: JSON.stringify({ cmd }) });
mock.onTurn(0, prompt, { toolCalls: [command("call_one", "echo one"), command("call_two", "echo two")] });
mock.onTurn(1, prompt, { content: "That makes two.", reasoning: "One and one." });
const rates = JSON.parse(chaos);
if (Object.keys(rates).length > 0) mock.setChaos(rates);
await mock.start();
console.log(mock.url);
process.stdin.resume().on("end", () => process.exit(0));
