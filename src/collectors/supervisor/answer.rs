//! What Supervisor says of its programs: the answer to `supervisor.getAllProcessInfo`, an XML-RPC
//! array of flat structs (<http://xmlrpc.com/spec.md>,
//! <https://supervisord.org/api.html#supervisor.rpcinterface.SupervisorNamespaceRPCInterface.getAllProcessInfo>).

use std::collections::HashMap;

/// Longest name that becomes a label, in characters.
const MAX_NAME: usize = 128;
/// Parts of an answer that are looked at.
const MAX_PARTS: usize = 2_000_000;

/// One program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// The number of its state: 20 runs.
    pub state: f64,
    /// When it was started, Unix seconds; 0 for never.
    pub start: f64,
    /// Its last exit status.
    pub exit_status: f64,
}

/// Reads an answer; errs with what is wrong with it, or with what Supervisor refuses.
pub fn programs(text: &str) -> Result<Vec<Program>, String> {
    const NO_ANSWER: &str = "the answer is not one of getAllProcessInfo";
    if !text.contains("<methodResponse") || !text.contains("</methodResponse>") {
        return Err(NO_ANSWER.to_owned());
    }
    let (mut found, mut members) = (Vec::new(), HashMap::new());
    let (mut name, mut said, mut value) = (String::new(), String::new(), None);
    let (mut is_array, mut is_fault) = (false, false);
    for piece in text.split('<').skip(1).take(MAX_PARTS) {
        let Some((tag, after)) = piece.split_once('>') else {
            return Err(NO_ANSWER.to_owned());
        };
        match tag {
            "fault" => is_fault = true,
            "array" => is_array = true,
            "struct" => members.clear(),
            "name" => name = unescaped(after),
            "value" => value = Some(unescaped(after)),
            "int" | "i4" | "string" | "double" | "boolean" => value = Some(unescaped(after)),
            "/value" => said = value.take().unwrap_or_default(),
            "/member" => {
                members.insert(std::mem::take(&mut name), std::mem::take(&mut said));
            }
            "/struct" if is_fault => {
                let fault = members.remove("faultString").unwrap_or_default();
                let fault: String = fault.chars().take(MAX_NAME).collect();
                return Err(format!("Supervisor refuses: {fault}"));
            }
            "/struct" => found.push(program(&members).ok_or(NO_ANSWER)?),
            _ => {}
        }
    }
    if is_array {
        Ok(found)
    } else {
        Err(NO_ANSWER.to_owned())
    }
}

fn program(members: &HashMap<String, String>) -> Option<Program> {
    let text = |name: &str| -> Option<String> {
        let plain = members.get(name)?.chars().filter(|c| !c.is_control());
        Some(plain.take(MAX_NAME).collect())
    };
    let number = |name: &str| members.get(name)?.trim().parse::<f64>().ok();
    Some(Program {
        name: text("name")?,
        group: text("group")?,
        state: number("state")?,
        start: number("start")?,
        exit_status: number("exitstatus")?,
    })
}

fn unescaped(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_faults_and_garbage_are_told_apart() {
        let member = |name: &str, value: &str| {
            format!("<member>\n<name>{name}</name>\n<value>{value}</value>\n</member>\n")
        };
        let whole = [
            member("name", "<string>a &amp; b</string>"),
            member("group", "web"),
            member("state", "<int>20</int>"),
            member("start", "<int>1700000000</int>"),
            member("exitstatus", "<i4>0</i4>"),
            member("description", "<string>pid 9, uptime 0:00:10</string>"),
        ]
        .concat();
        let answer = |content: &str| {
            format!("<?xml version='1.0'?>\n<methodResponse>\n{content}\n</methodResponse>")
        };
        let array = |content: &str| {
            answer(&format!(
                "<params><param><value><array><data>\n{content}</data></array></value></param></params>"
            ))
        };
        let one = format!("<value><struct>{whole}</struct></value>");
        let found = programs(&array(&one.repeat(2))).expect("read");
        let wanted = Program {
            name: "a & b".into(),
            group: "web".into(),
            state: 20.0,
            start: 1_700_000_000.0,
            exit_status: 0.0,
        };
        assert_eq!(found, [wanted.clone(), wanted]);
        assert_eq!(programs(&array("")), Ok(Vec::new()));
        let fault = [
            member("faultCode", "<int>6</int>"),
            member("faultString", "<string>SHUTDOWN_STATE</string>"),
        ]
        .concat();
        let fault = answer(&format!(
            "<fault><value><struct>{fault}</struct></value></fault>"
        ));
        assert_eq!(
            programs(&fault),
            Err("Supervisor refuses: SHUTDOWN_STATE".to_owned())
        );
        let cut = array(&one);
        for broken in [
            "",
            "<html></html>",
            &cut[..cut.len() / 2],
            &answer("<params></params>"),
            &array("<value><struct></struct></value>"),
            &array(&one.replace("20", "twenty")),
        ] {
            assert!(programs(broken).is_err(), "{broken}");
        }
    }
}
