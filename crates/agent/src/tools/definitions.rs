//! The tools as they are told to the model: names and parameters are those that current coding models were trained
//! with; the words are ours.

use serde_json::{Value, json};

use super::{ATTACH, EXEC, IMAGE, PATCH, PLAN, READ, STDIN};
use crate::PatchTool;

/// The grammar of a patch, for servers that hold a freeform tool to one.
const GRAMMAR: &str = include_str!("../prompt/patch.lark");

/// Every tool, in the form this model's server takes; `view_image` only for a model that takes images.
pub(crate) fn definitions(patch_tool: PatchTool, images: bool) -> Vec<Value> {
    let image = images.then(view_image);
    let all = [exec_command(), write_stdin(), read_output(), apply_patch(patch_tool), update_plan(), attach_artifact()];
    all.into_iter().chain(image).collect()
}

fn function(name: &str, description: &str, required: &[&str], properties: Value) -> Value {
    json!({
        "type": "function",
        "name": name,
        "description": description,
        "strict": false,
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        },
    })
}

fn exec_command() -> Value {
    function(
        EXEC,
        "Runs a shell command in the sandbox and returns what it printed. If it is still running after yield_time_ms, returns what there is, with a session ID for write_stdin.",
        &["cmd"],
        json!({
            "cmd": { "type": "string", "description": "The command, for a shell." },
            "workdir": { "type": "string", "description": "The folder it starts in. Default: the repository." },
            "shell": { "type": "string", "description": "The shell. Default: bash." },
            "login": { "type": "boolean", "description": "Whether it is a login shell. Default: true." },
            "tty": { "type": "boolean", "description": "Whether it gets a terminal, and with it an input that write_stdin can write to. Default: false." },
            "yield_time_ms": { "type": "number", "description": "How long to wait for its end, 250 to 30000. Default: 10000." },
            "max_output_tokens": { "type": "number", "description": "How much output to return; the middle of more is left out. Default: 10000." },
        }),
    )
}

fn write_stdin() -> Value {
    function(
        STDIN,
        "Writes to a command that is still running, or only waits for it, and returns what it has printed since.",
        &["session_id"],
        json!({
            "session_id": { "type": "number", "description": "The session ID that exec_command returned." },
            "chars": { "type": "string", "description": "What to write; empty to only wait. \\u0003 interrupts the command." },
            "yield_time_ms": { "type": "number", "description": "How long to wait for its end: up to 30000 after writing (default 250), 5000 to 300000 when only waiting." },
            "max_output_tokens": { "type": "number", "description": "How much output to return. Default: 10000." },
        }),
    )
}

fn read_output() -> Value {
    function(
        READ,
        "Reads again what a command printed, also what was left out of its result: lines, bytes, or lines in which something stands. Lines are shown with their numbers, counted from the beginning of the chunk; citations use the same.",
        &[],
        json!({
            "chunk_id": { "type": "string", "description": "The Chunk ID of a result of exec_command or write_stdin." },
            "session_id": { "type": "number", "description": "Instead of it: the session ID of a command, for all that it printed." },
            "start_line": { "type": "number", "description": "The first line, counted from 1; negative: from the end. Default: 1." },
            "end_line": { "type": "number", "description": "The last line. Default: as far as max_output_tokens go." },
            "start_byte": { "type": "number", "description": "Instead of lines: the first byte, counted from 0." },
            "end_byte": { "type": "number", "description": "The byte to stop before." },
            "search": { "type": "string", "description": "Only lines in which this stands." },
            "regex": { "type": "boolean", "description": "Whether search is a regular expression. Default: false." },
            "max_matches": { "type": "number", "description": "Default: 50." },
            "context_lines": { "type": "number", "description": "Lines before and after each match. Default: 0." },
            "max_output_tokens": { "type": "number", "description": "Default: 10000." },
        }),
    )
}

fn view_image() -> Value {
    function(
        IMAGE,
        "Shows you an image file (PNG, JPEG, GIF, WebP) of the sandbox.",
        &["path"],
        json!({ "path": { "type": "string", "description": "The file." } }),
    )
}

fn attach_artifact() -> Value {
    function(
        ATTACH,
        "Keeps a file of the sandbox for the person beside the patch: a screenshot, a report, a build. At most 20 files of 10 MB.",
        &["path"],
        json!({
            "path": { "type": "string", "description": "The file." },
            "name": { "type": "string", "description": "What it is called for the person. Default: its own name." },
            "description": { "type": "string", "description": "What it shows, in a sentence." },
        }),
    )
}

fn apply_patch(form: PatchTool) -> Value {
    const WHAT: &str = "Changes files of the repository by a patch. All of it is applied, or nothing.";
    match form {
        PatchTool::Freeform => json!({
            "type": "custom",
            "name": PATCH,
            "description": format!("{WHAT} This is a freeform tool: write the patch itself, not JSON."),
            "format": { "type": "grammar", "syntax": "lark", "definition": GRAMMAR },
        }),
        PatchTool::Function => function(
            PATCH,
            &format!("{WHAT}\n\n{}", include_str!("../prompt/patch.md")),
            &["input"],
            json!({ "input": { "type": "string", "description": "The whole patch, from `*** Begin Patch` to `*** End Patch`." } }),
        ),
    }
}

fn update_plan() -> Value {
    function(
        PLAN,
        "Shows the person your plan. Worth it for work of several steps; at most one of them is in progress.",
        &["plan"],
        json!({
            "explanation": { "type": "string", "description": "Why the plan changed." },
            "plan": {
                "type": "array",
                "description": "All steps, in order.",
                "items": {
                    "type": "object",
                    "properties": {
                        "step": { "type": "string" },
                        "status": { "type": "string", "enum": ["pending", "in_progress", "completed"] },
                    },
                    "required": ["step", "status"],
                    "additionalProperties": false,
                },
            },
        }),
    )
}
