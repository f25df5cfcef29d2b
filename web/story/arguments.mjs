// What a story is told on its command line: where the service is, and what it should see there.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const USAGE = `usage: node story/main-job.mjs --url URL --owner-link URL --repository PATH --out DIR [--expect JSON|@FILE]

--expect: {"prompt", "answer", "file", "diff", "blocked", "branch", "followUp", "followUpAnswer",
          "wait", "told", "toldAnswer", "resumedAnswer"}, each with a
          default that any scripted model satisfies: a text to type, or a text that must be seen ("" for any).
CHROMIUM: the browser [default: /usr/bin/chromium]`;

const EXPECT = {
  /** What is typed. */
  prompt: "Fix the failing test.",
  /** A part of the answer. */
  answer: "",
  /** A file that the patch changes. */
  file: "",
  /** A part of a changed line. */
  diff: "",
  /** A host that the work asks for and is refused. */
  blocked: "",
  /** The branch that is pushed to. */
  branch: "carrel/story",
  followUp: "Why did it fail?",
  /** A part of the follow-up's answer. */
  followUpAnswer: "",
  /** What makes the agent wait until it is told something; "" where nothing does. */
  wait: "",
  /** What it is told. */
  told: "Stop waiting.",
  /** A part of what it answers then, and of what it answers once it was stopped and resumed instead. */
  toldAnswer: "",
  resumedAnswer: "",
};

/** Reads the command line, or ends the program with how it is meant. */
export function readArguments() {
  try {
    const text = { type: "string" };
    const { values } = parseArgs({
      options: {
        url: text,
        "owner-link": text,
        repository: text,
        out: text,
        expect: { ...text, default: "{}" },
      },
    });
    for (const name of ["url", "owner-link", "repository", "out"]) {
      if (values[name] === undefined) throw new Error(`--${name} is missing`);
    }
    const json = values.expect.startsWith("@") ? readFileSync(values.expect.slice(1), "utf8") : values.expect;
    const told = JSON.parse(json);
    const unknown = Object.keys(told).filter((name) => !(name in EXPECT));
    if (unknown.length > 0) throw new Error(`--expect does not know ${unknown.join(", ")}`);
    return {
      url: values.url.replace(/\/$/, ""),
      ownerLink: values["owner-link"],
      repository: values.repository,
      out: values.out,
      expect: { ...EXPECT, ...told },
    };
  } catch (error) {
    console.error(`${error.message}\n\n${USAGE}`);
    process.exit(2);
  }
}
