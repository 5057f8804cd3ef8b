import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LineCounter, parseDocument, type Document } from 'yaml';
import { ImsError, type JsonObject } from '#contracts';
import { readPolicy, type CustomerPolicy } from '#domain';

export interface LoadedPolicy {
  readonly policy: CustomerPolicy;
  /** `defaults`: there is no file, and everything is allowed. */
  readonly state: 'file' | 'defaults';
  /** SHA-256 of the file's bytes. */
  readonly digest?: string;
}

/** A policy file that cannot be taken: every reason at once, with the line where there is one. */
export class PolicyFaults extends Error {
  override readonly name = 'PolicyFaults';
  constructor(
    readonly file: string,
    /** `12: /windows/0/from must be …`, or without a line. */
    readonly faults: readonly string[],
  ) {
    super(`${file} is not a valid policy:\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
  }
}

/** More is no policy, and YAML of any size could be made to take all memory. */
const FILE_BYTES_MAX = 256 * 1024;

/**
 * The policy in a file. `required`: that there is none is a fault, as it is when somebody named the file. Throws
 * PolicyFaults; also when others than the file's owner can change it, and when that is neither root nor `owner` (a uid;
 * default: the user of this process).
 */
export async function loadPolicy(file: string, required: boolean, owner = process.geteuid?.()): Promise<LoadedPolicy> {
  let text: string;
  try {
    await assertOnlyOwnerWrites(file, owner);
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof PolicyFaults) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && !required) return { policy: readPolicy(undefined), state: 'defaults' };
    throw new PolicyFaults(file, [code === 'ENOENT' ? 'there is no such file' : message]);
  }
  const digest = `sha256:${createHash('sha256').update(text).digest('hex')}`;
  return { policy: parsePolicy(file, text), state: 'file', digest };
}

/** A policy from YAML text. Throws PolicyFaults. */
export function parsePolicy(file: string, text: string): CustomerPolicy {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    const faults = document.errors.map(({ message, pos }) => `${lines.linePos(pos[0]).line}: ${message}`);
    throw new PolicyFaults(file, faults);
  }
  try {
    return readPolicy(document.toJS({ maxAliasCount: 100 }) as unknown);
  } catch (error) {
    if (!(error instanceof ImsError)) throw new PolicyFaults(file, [(error as Error).message]);
    const faults = error.errors.map(({ pointer, message }) => {
      const line = lineOf(document, pointer, lines);
      return `${line === undefined ? '' : `${line}: `}${pointer === '' ? '' : `${pointer} `}${message}`;
    });
    throw new PolicyFaults(file, faults);
  }
}

/** The line of the value at a JSON pointer; that of the nearest thing around it when it is missing. */
function lineOf(document: Document, pointer: string, lines: LineCounter): number | undefined {
  const path = pointer.split('/').slice(1);
  for (let length = path.length; length > 0; length--) {
    const steps = path.slice(0, length).map((part) => (/^\d+$/.test(part) ? Number(part) : part));
    const node = document.getIn(steps, true) as { range?: [number, number, number] | null } | undefined;
    if (node?.range) return lines.linePos(node.range[0]).line;
  }
  return undefined;
}

/** Refuses a file with which somebody else could command this agent. */
async function assertOnlyOwnerWrites(file: string, owner = 0): Promise<void> {
  const faults: string[] = [];
  const { mode, uid, size } = await stat(file);
  if ((mode & 0o022) !== 0) faults.push(`others can change it (mode ${octal(mode)}): chmod go-w ${file}`);
  if (uid !== 0 && uid !== owner) faults.push(`it belongs to user ${uid}, who is neither root nor this agent's`);
  if (size > FILE_BYTES_MAX) faults.push(`it has ${size} bytes, more than ${FILE_BYTES_MAX}`);
  const directory = await stat(dirname(file));
  // In a directory with the sticky bit, as /tmp, only the owner of a file can replace it.
  if ((directory.mode & 0o022) !== 0 && (directory.mode & 0o1000) === 0) {
    faults.push(
      `others can replace it (${dirname(file)} has mode ${octal(directory.mode)}): chmod go-w ${dirname(file)}`,
    );
  }
  if (faults.length > 0) throw new PolicyFaults(file, faults);
}

const octal = (mode: number): string => (mode & 0o7777).toString(8);

/** A policy as plain JSON, to be shown and reported. */
export const plainPolicy = (policy: CustomerPolicy): JsonObject => JSON.parse(JSON.stringify(policy)) as JsonObject;
