//! What the definitions of tools cost. OpenAI's models are not shown the JSON but TypeScript made of it; what is counted
//! here is that. Anthropic's have a fixed preface instead.

use serde_json::Value;

use super::Count;

/// The tokens of these definitions.
pub(super) fn of_tools(tools: &[Value], count: Count) -> u64 {
    if tools.is_empty() {
        return 0;
    }
    count.of_text(&rendered(tools))
}

/// The definitions as models are shown them.
fn rendered(tools: &[Value]) -> String {
    let mut text = "# Tools\n\n## functions\n\nnamespace functions {\n\n".to_owned();
    for tool in tools {
        comment(&mut text, &tool["description"]);
        let name = tool["name"].as_str().unwrap_or_default();
        let format = tool["format"]["definition"].as_str();
        if let Some(definition) = format {
            text.push_str(&format!("type {name} = (FREEFORM) => any; // {definition}\n\n"));
            continue;
        }
        let parameters = &tool["parameters"];
        text.push_str(&format!("type {name} = (_: {}) => any;\n\n", type_of(parameters)));
    }
    text.push_str("} // namespace functions\n");
    text
}

fn comment(text: &mut String, description: &Value) {
    for line in description.as_str().unwrap_or_default().lines() {
        text.push_str(&format!("// {line}\n"));
    }
}

fn type_of(schema: &Value) -> String {
    if let Some(choices) = schema["enum"].as_array() {
        return choices.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut text = "{\n".to_owned();
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                comment(&mut text, &property["description"]);
                let mark = if required.iter().any(|one| one == name) { "" } else { "?" };
                text.push_str(&format!("{name}{mark}: {},\n", type_of(property)));
            }
            text.push('}');
            text
        }
        Some("array") => format!("{}[]", type_of(&schema["items"])),
        Some("integer") => "number".to_owned(),
        Some(plain) => plain.to_owned(),
        None => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_function_is_counted_as_the_type_it_is_shown_as() {
        let tool = json!({
            "type": "function", "name": "plan", "description": "Plans.",
            "parameters": {
                "type": "object", "required": ["steps"],
                "properties": {
                    "steps": { "type": "array", "items": { "type": "string" }, "description": "All." },
                    "status": { "type": "string", "enum": ["open", "done"] },
                },
            },
        });

        insta::assert_snapshot!(rendered(&[tool]), @r##"
        # Tools

        ## functions

        namespace functions {

        // Plans.
        type plan = (_: {
        status?: "open" | "done",
        // All.
        steps: string[],
        }) => any;

        } // namespace functions
        "##);
        assert_eq!(of_tools(&[], Count::Rough), 0);
    }
}
