//! How the page looks: calm, legible, the same on screen, in the dark and on paper. Colours
//! never carry a meaning alone; all of them keep a contrast of 4.5 to 1 with what is under
//! them (WCAG 2.1, 1.4.3).

/// The page's one style sheet.
pub(crate) const STYLE: &str = r#"
:root { color-scheme: light dark;
  --paper:#f7f7f5; --card:#ffffff; --ink:#1b2130; --muted:#5a6272; --line:#dfe1e6; --soft:#eef0f3;
  --active:#0b6b52; --active-soft:#d8efe6; --standby:#46588f; --standby-soft:#e2e7f5; --unknown:#8a5300; --unknown-soft:#fbeccf;
  --bad:#b3261e; --bad-soft:#fbe3e0; --bar:#9fb0d6; --pause:#c2410c; --switch:#efe6fb; --heard:#bfe3d2; --gap:#b26a00; --good:#0b6b52; }
@media (prefers-color-scheme: dark) { :root {
  --paper:#14171d; --card:#1c2028; --ink:#e7e9ee; --muted:#a3abb9; --line:#343a46; --soft:#252a34;
  --active:#7ddcb9; --active-soft:#163d32; --standby:#aab9ee; --standby-soft:#262f4d; --unknown:#f1c27a; --unknown-soft:#453312;
  --bad:#ff9b90; --bad-soft:#4a1f1c; --bar:#44557f; --pause:#ff8a4c; --switch:#2e2740; --heard:#1f5a45; --gap:#f1b24a; --good:#7ddcb9; } }
* { box-sizing:border-box }
body { margin:0; background:var(--paper); color:var(--ink); font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif; font-variant-numeric:tabular-nums; overflow-wrap:anywhere }
main { max-width:1180px; margin:0 auto; padding:48px 32px 80px }
header { margin-bottom:36px }
.kicker { margin:0 0 10px; color:var(--muted); font-size:14px; letter-spacing:.02em }
h1 { margin:0 0 12px; font-size:30px; line-height:1.25; font-weight:650; letter-spacing:-.01em }
.outcome { display:inline-block; margin-right:8px; padding:2px 14px; border-radius:99px; font-size:19px; vertical-align:4px; font-weight:600; border:1.5px solid currentColor }
.outcome.good { color:var(--good); background:var(--active-soft) } .outcome.bad { color:var(--bad); background:var(--bad-soft) }
.outcome.held { color:var(--unknown); background:var(--unknown-soft) } .outcome.open { color:var(--standby); background:var(--standby-soft) }
.sentence { margin:0; font-size:19px; max-width:62em }
.hint { margin:18px 0 0; padding:14px 18px; max-width:62em; background:var(--unknown-soft); border-left:4px solid var(--unknown); border-radius:4px }
h2 { margin:52px 0 16px; font-size:20px; font-weight:620 }
h3 { margin:0; font-size:14px; font-weight:500; color:var(--muted) }
.cards { display:flex; flex-wrap:wrap; gap:16px }
.card { box-sizing:border-box; flex:1 1 204px; max-width:320px; padding:18px 20px; background:var(--card); border:1px solid var(--line); border-radius:10px }
.card p { margin:0; font-size:14px } .card .figure-number { margin:4px 0 2px; font-size:27px; line-height:1.25; font-weight:620; letter-spacing:-.01em; color:var(--ink) }
.nowrap { white-space:nowrap }
.card .badge { margin-top:8px }
.bad, .card .figure-number.bad { color:var(--bad) } .muted { color:var(--muted) }
.badge { display:inline-block; padding:1px 10px; border-radius:99px; font-size:13px; font-weight:600; color:var(--unknown); background:var(--unknown-soft); border:1px solid currentColor }
.weak { margin:0 0 10px }
.figure { list-style:none; margin:0; padding:0; display:grid; grid-template-columns:repeat(auto-fill,minmax(194px,1fr)); gap:30px 26px }
.figure.broad { grid-template-columns:repeat(auto-fill,minmax(280px,1fr)) } .figure.broad svg { max-width:420px }
.figure figure { margin:0 } .figure svg { width:100%; max-width:300px; height:auto; display:block }
figcaption { margin-top:10px; font-size:14px; line-height:1.45 } .letter { font-size:16px }
svg text { fill:var(--ink); font-size:12px; font-family:inherit }
.machine { fill:var(--card); stroke:var(--line); stroke-width:1.5 } .nowhere { stroke-dasharray:5 4; fill:none; stroke:var(--unknown) }
text.name { font-weight:600 }
.vm rect { fill:var(--soft); stroke:var(--muted); stroke-width:1.5 } .vm .server { font-weight:600 } .vm .vmname { font-size:10.5px; fill:var(--muted) }
.vm .pill { stroke:none; fill:none } .vm .role { font-size:11.5px; font-weight:650 }
.vm.active rect { fill:var(--active-soft); stroke:var(--active); stroke-width:2.5 } .vm.active .pill { fill:var(--active); stroke:none } .vm.active .role { fill:var(--card) }
.vm.standby rect { fill:var(--standby-soft); stroke:var(--standby) } .vm.standby .pill { fill:none; stroke:var(--standby); stroke-width:1 } .vm.standby .role { fill:var(--standby) }
.vm.unknown rect { fill:var(--unknown-soft); stroke:var(--unknown); stroke-dasharray:4 3 } .vm.unknown .pill { fill:none; stroke:none } .vm.unknown .role { fill:var(--unknown) }
text.end { font-size:10px; fill:var(--muted) }
.ghost { fill:none; stroke:var(--muted); stroke-dasharray:3 4; stroke-width:1.2 } .arrow { stroke:var(--ink); stroke-width:2 } .head { fill:var(--ink) }
.wide { overflow-x:auto } .timeline { width:100%; min-width:820px; height:auto; display:block; padding:8px 0 }
.timeline .grid { stroke:var(--line); stroke-width:1 } .timeline .tick, .timeline .sub { fill:var(--muted); font-size:11px } .timeline .lane { font-weight:550 }
.timeline .switch { fill:var(--switch) }
.bar.done { fill:var(--bar) } .bar.failed { fill:var(--bad-soft); stroke:var(--bad); stroke-dasharray:4 3 } .pause { fill:var(--pause) }
.span.active { fill:var(--active) } .span.standby { fill:var(--standby-soft); stroke:var(--standby); stroke-width:1 } .span.unknown, .span.witness { fill:var(--unknown-soft); stroke:var(--unknown); stroke-dasharray:4 3 }
text.in { font-size:11.5px; font-weight:600 } text.in.active { fill:var(--card) } text.in.standby { fill:var(--standby) } text.in.unknown { fill:var(--unknown) }
.heard { fill:var(--heard) } .gap { fill:var(--gap) } .gap.breach { fill:var(--bad) } text.gaptext { font-weight:600; paint-order:stroke; stroke:var(--paper); stroke-width:4px; stroke-linejoin:round }
text.gaptext.breach { fill:var(--bad) }
.legend { display:flex; flex-wrap:wrap; gap:6px 20px; margin:10px 0 0; font-size:13px; color:var(--muted) } .legend i { display:inline-block; width:18px; height:11px; margin-right:7px; border-radius:2px }
.k-done { background:var(--bar) } .k-pause { background:var(--pause) } .k-switch { background:var(--switch); outline:1px solid var(--line) } .k-active { background:var(--active) } .k-standby { background:var(--standby-soft); outline:1px solid var(--standby) }
.k-unknown { background:var(--unknown-soft); outline:1px dashed var(--unknown) } .k-heard { background:var(--heard) } .k-gap { background:var(--gap) } .k-breach { background:var(--bad) }
table { border-collapse:collapse; width:100%; font-size:14.5px } td { min-width:8em } td.n { min-width:0 }
th, td { padding:8px 14px 8px 0; text-align:left; vertical-align:top; border-bottom:1px solid var(--line) }
th { font-weight:550; color:var(--muted); font-size:13px } .n { text-align:right; white-space:nowrap; padding-right:24px; width:1% } td.n { color:var(--ink) }
.events .n { color:var(--muted) } tr.warning td { background:var(--unknown-soft) } tr.error td { background:var(--bad-soft) } tr.warning td:first-child, tr.error td:first-child { padding-left:10px }
.note { font-size:13px; color:var(--muted) } dl { display:grid; grid-template-columns:max-content 1fr; gap:6px 28px; margin:0; font-size:14.5px } dt { color:var(--muted); max-width:16em } dd { margin:0 }
code { font-family:ui-monospace,"DejaVu Sans Mono",monospace; font-size:.92em }
@media (max-width:640px) { main { padding:28px 18px 48px } h1 { font-size:24px } dl { grid-template-columns:1fr; gap:0 } dd { margin-bottom:10px } }
@media print { :root { --paper:#fff; --card:#fff } body { font-size:11pt } main { max-width:none; padding:0 } h2 { margin-top:28px; break-after:avoid } .card, .figure li, tr, svg { break-inside:avoid } .wide { overflow:visible } .timeline { min-width:0 }
  * { print-color-adjust:exact; -webkit-print-color-adjust:exact } .figure { grid-template-columns:repeat(3,1fr) } }
"#;
