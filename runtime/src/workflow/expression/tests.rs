//! Expressions: what they give, and where a wrong one is shown.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::workflow::load_text;

/// One step with one argument, `text`; its value with some inputs and outputs.
fn evaluate(text: &str) -> Result<Json, String> {
    let file = format!(
        "name: t\ninputs:\n  pair: {{type: string}}\n  count: {{type: int}}\n  on: {{type: bool}}\n  many: {{type: string}}\n  \
         switch-back: {{type: bool}}\nsteps:\n  - id: one-1\n    uses: x\n  - id: two\n    uses: x\n    with:\n      v: {}\n",
        serde_json::to_string(text).unwrap_or_default()
    );
    let workflow = load_text(Path::new("t.yaml"), &file).map_err(|found| found.to_string())?;
    let inputs = json!({"pair": "sip", "count": 3, "on": true, "many": vec!["ab"; 3], "switch-back": false});
    let mut scope = Scope::new(inputs.as_object().cloned().unwrap_or_default());
    scope.set_outputs(
        "one-1",
        json!({"total-ms": 1200, "name": "${{ inputs.count }}", "list": (0..1000).collect::<Vec<_>>()}),
    );
    workflow.steps[1].with[0].value.evaluate(&scope).map_err(|diagnostic| diagnostic.to_string())
}

#[test]
fn a_whole_expression_keeps_its_type() {
    for (text, value) in [
        ("${{ inputs.count }}", json!(3)),
        ("  ${{ inputs.on }}\n", json!(true)),
        ("${{ inputs.many }}", json!(["ab", "ab", "ab"])),
        ("${{ inputs.count + 1 > 3 ? 'yes' : 'no' }}", json!("yes")),
        ("${{ {'a': inputs.count, 'b': [1, 2]} }}", json!({"a": 3, "b": [1, 2]})),
        ("${{ !inputs.switch-back }}", json!(true)),
        ("${{ steps.one-1.outputs.total-ms / 1000 }}", json!(1)),
        ("${{ steps['one-1'].outputs['total-ms'] - inputs.count }}", json!(1197)),
        ("${{ size(inputs.many) == 3 && inputs.many.all(m, m.startsWith('a')) }}", json!(true)),
        ("${{ inputs.many.map(m, size(m)) }}", json!([2, 2, 2])),
        ("${{ has(steps.one-1.outputs.absent) }}", json!(false)),
        ("${{ null }}", json!(null)),
    ] {
        assert_eq!(evaluate(text), Ok(value), "{text}");
    }
}

#[test]
fn within_text_it_becomes_text() {
    assert_eq!(
        evaluate("pair ${{ inputs.pair }} x${{ inputs.count }}, ${{ inputs.on }}"),
        Ok(json!("pair sip x3, true"))
    );
    assert!(
        evaluate("all: ${{ inputs.many }}")
            .is_err_and(|text| text.contains("a list, which cannot stand within text"))
    );
}

#[test]
fn what_an_expression_gives_is_never_an_expression_again() {
    assert_eq!(evaluate("${{ steps.one-1.outputs.name }}"), Ok(json!("${{ inputs.count }}")));
    assert_eq!(evaluate("a ${{ steps.one-1.outputs.name }}"), Ok(json!("a ${{ inputs.count }}")));
    assert_eq!(evaluate("${{ '${' + '{ inputs.count }' + '}' }}"), Ok(json!("${{ inputs.count }}")));
    assert_eq!(evaluate("$${{ inputs.count }}"), Ok(json!("${{ inputs.count }}")));
}

#[test]
fn what_fails_at_run_time_says_where_and_why() {
    for (text, wanted) in [
        ("${{ steps.one-1.outputs.total_ms }}", "there is no `total_ms`"),
        ("${{ inputs.pair + 1 }}", "add does not take string and int together (convert one side"),
        ("${{ 1 / (inputs.count - 3) }}", "zero"),
        ("${{ 9223372036854775807 + inputs.count }}", "verflow"),
        ("${{ inputs.many[7] }}", "ndex out of bounds"),
        ("${{ b'abc' }}", "gives bytes"),
        ("${{ {1: 2} }}", "keys are not text"),
    ] {
        let error = evaluate(text).err().unwrap_or_default();
        assert!(error.contains(wanted) && error.starts_with("t.yaml:14:"), "{text}: {error}");
    }
    assert!(
        evaluate("${{ steps.one-1.outputs.totalms }}")
            .is_err_and(|text| text.contains("did you mean `total-ms`?"))
    );
}

#[test]
fn an_evaluation_that_could_grow_without_bound_is_refused() {
    let grow = format!("${{{{ ['a']{} }}}}", ".map(x, x+x+x+x+x+x+x+x+x+x+x+x)".repeat(4));
    let nested = "${{ steps.one-1.outputs.list.all(a, steps.one-1.outputs.list.all(b, steps.one-1.outputs.list.all(c, a + b + c >= 0))) }}";
    for text in [grow.as_str(), nested] {
        assert!(
            evaluate(text).is_err_and(|text| text.contains("could take too long")),
            "{text}: {:?}",
            evaluate(text).map(|_| ())
        );
    }
    let five = format!("${{{{ inputs.many{} }}}}", ".map(x, x)".repeat(5));
    assert!(evaluate(&five).is_err_and(|text| text.contains("more than 4")));
}

/// At the bounds, on the small stack that a worker thread has.
#[test]
fn the_longest_and_deepest_expressions_fit_the_stack() {
    let texts = [
        format!("${{{{ 1{} }}}}", "+1".repeat(127)),
        format!("${{{{ {}1{} }}}}", "(".repeat(16), ")".repeat(16)),
        format!("${{{{ {}1{} }}}}", "[".repeat(16), "]".repeat(16)),
        format!("${{{{ {}true }}}}", "!".repeat(250)),
        format!("${{{{ {}1 }}}}", "-".repeat(250)),
        format!("${{{{ {}1 }}}}", "true?1:".repeat(60)),
        format!("${{{{ inputs{} }}}}", ".a".repeat(120)),
        format!("${{{{ inputs.many{} }}}}", "[0]".repeat(80)),
        format!("${{{{ true{} }}}}", "&&true".repeat(126)),
    ];
    let run = move || {
        for text in &texts {
            let result = evaluate(text);
            let known = ["no such", "there is no", "does not take", "failed", "not a"];
            assert!(
                result
                    .as_ref()
                    .map_or_else(|error| known.iter().any(|known| error.contains(known)), |_| true),
                "{text}: {result:?}"
            );
        }
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run);
    assert!(thread.is_ok_and(|thread| thread.join().is_ok()));
}

#[test]
fn no_expression_makes_it_panic_or_hang() {
    let pieces = [
        "inputs",
        ".",
        "pair",
        "count",
        "steps",
        "one-1",
        "outputs",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "'a'",
        "\"b\"",
        "1",
        "2.5",
        "0x1f",
        "1u",
        "-",
        "+",
        "*",
        "/",
        "%",
        "!",
        "==",
        "<",
        "&&",
        "||",
        "?",
        ":",
        ",",
        " ",
        "\n",
        "x",
        ".map(x, ",
        ".exists(x, ",
        "has(",
        "size(",
        "in ",
        "null",
        "true",
        "é",
        "🦘",
        "\\",
        "`",
        "'",
        "b'",
        "r'",
        "'''",
        "1e999",
        "99999999999999999999",
        "@",
        "int(",
        "string(",
        "optional.of(",
        ".?a",
        "type(",
        "matches('(', ",
    ];
    let begin = std::time::Instant::now();
    for number in 0u64..3000 {
        let mut state = number;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) as usize) % bound
        };
        let length = 1 + below(14);
        let inner: String = (0..length).map(|_| pieces[below(pieces.len())]).collect();
        drop(evaluate(&format!("${{{{ {inner} }}}}")));
    }
    assert!(begin.elapsed().as_secs() < 300, "{:?}", begin.elapsed());
}
