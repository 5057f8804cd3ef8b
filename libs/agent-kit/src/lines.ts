import { StringDecoder } from 'node:string_decoder';

/** Characters of one line that are kept in memory; the log shipper cuts further, after it has redacted. */
export const LINE_CHARS_MAX = 64 * 1024;

/** Output of a program as lines, whatever the chunks are. Of a line that is redrawn (`\r`) only the last state counts. */
export class LineSplitter {
  private readonly decoder = new StringDecoder('utf8');
  private held = '';
  private cut = false;

  constructor(private readonly onLine: (line: string, cut: boolean) => void) {}

  write(chunk: Buffer): void {
    this.take(this.decoder.write(chunk));
  }

  end(): void {
    this.take(this.decoder.end());
    if (this.held !== '') this.flush();
  }

  private take(text: string): void {
    let from = 0;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', from)) {
      this.hold(text.slice(from, at));
      this.flush();
      from = at + 1;
    }
    this.hold(text.slice(from));
  }

  private hold(text: string): void {
    const room = LINE_CHARS_MAX - this.held.length;
    if (text.length > room) this.cut = true;
    this.held += text.slice(0, Math.max(0, room));
  }

  private flush(): void {
    const line = this.held.endsWith('\r') ? this.held.slice(0, -1) : this.held;
    this.onLine(line.slice(line.lastIndexOf('\r') + 1), this.cut);
    this.held = '';
    this.cut = false;
  }
}
