//! Where an expression begins and ends in a text.

use super::*;

fn cel(text: &str) -> String {
    match pieces(text).as_deref() {
        Ok([Piece::Expression { scanned, .. }]) => scanned.cel.trim().to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_name_after_a_dot_may_have_hyphens() {
    assert_eq!(cel("${{ inputs.switch-back }}"), "inputs.`switch-back`");
    assert_eq!(cel("${{ inputs.a - inputs.b }}"), "inputs.a - inputs.b");
    assert_eq!(cel("${{ steps.move-1.outputs.total-ms > 3 }}"), "steps.`move-1`.outputs.`total-ms` > 3");
    assert_eq!(cel("${{ inputs.list.exists(x, x == 'a-b') }}"), "inputs.list.exists(x, x == 'a-b')");
    assert_eq!(cel("${{ inputs.in }}"), "inputs.`in`");
}

#[test]
fn braces_in_maps_and_strings_do_not_end_an_expression() {
    assert_eq!(cel("${{ {'a': {'b': 1}} }}"), "{'a': {'b': 1}}");
    assert_eq!(cel("${{ '}}' + r\"\\\" + 'it\\'s' }}"), "'}}' + r\"\\\" + 'it\\'s'");
}

#[test]
fn text_around_and_escapes() {
    let found = pieces("a ${{ 1 }} $${{ 2 }} b");
    match found.as_deref() {
        Ok([Piece::Text(a), Piece::Expression { nth: 0, .. }, Piece::Text(b)]) => {
            assert_eq!((a.as_str(), b.as_str()), ("a ", " ${{ 2 }} b"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bounds_are_kept() {
    let long = format!("${{{{ '{}' }}}}", "x".repeat(MAX_LENGTH));
    let many = format!("${{{{ 1{} }}}}", "+1".repeat(MAX_TOKENS));
    let deep = format!("${{{{ {}1{} }}}}", "(".repeat(17), ")".repeat(17));
    // A long string is one token; its length is seen at the next one.
    for text in [long, many, deep] {
        assert!(pieces(&text).is_err(), "{}", &text[..40]);
    }
}

#[test]
fn offsets_lead_back_to_what_was_written() {
    let Ok(found) = pieces("${{ a.b-c + d }}") else { panic!("not scanned") };
    let [Piece::Expression { scanned, .. }] = found.as_slice() else { panic!("{found:?}") };
    let at = scanned.cel.find('d').map(|at| scanned.offsets[at]);
    assert_eq!(at, scanned.written.find('d'));
}
