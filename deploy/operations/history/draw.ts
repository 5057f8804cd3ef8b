import pc from 'picocolors';
import { type RuleReport } from '#domain';

/** So many counterexamples of a rule are shown: the first ones are the cause, the others mostly follow. */
const SHOWN = 5;

/** A line for each rule, and its counterexamples below it. */
export function drawReport(reports: readonly RuleReport[]): string {
  const width = Math.max(...reports.map(({ title }) => title.length));
  const lines = reports.flatMap(({ title, checked, faults }) => {
    const good = faults.length === 0;
    const mark = good ? (checked === 0 ? pc.dim('·') : pc.green('✓')) : pc.red('✗');
    const count = checked === 0 ? pc.dim('nothing to check') : `${checked.toLocaleString('en')} checked`;
    const found = good
      ? ''
      : pc.red(`, ${faults.length.toLocaleString('en')} ${faults.length === 1 ? 'fault' : 'faults'}`);
    const shown = faults.slice(0, SHOWN).map(({ text, ids }) => `    ${text}${pc.dim(extra(text, ids))}`);
    const more = faults.length > SHOWN ? [pc.dim(`    … and ${faults.length - SHOWN} more`)] : [];
    return [`${mark} ${title.padEnd(width)}  ${count}${found}`, ...shown, ...more];
  });
  return `${lines.join('\n')}\n`;
}

/** Ids that the text does not name itself. */
function extra(text: string, ids: readonly string[]): string {
  const others = ids.filter((id) => !text.includes(id));
  return others.length === 0 ? '' : `  (${others.slice(0, 3).join(', ')})`;
}
