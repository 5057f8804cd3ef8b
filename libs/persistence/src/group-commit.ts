import { ImsError } from '#contracts';

interface Waiting<I, O> {
  readonly item: I;
  readonly resolve: (value: O) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Items that arrive while a group is being dealt with make up the next one: what a group costs once (a transaction, its
 * round trips, its flush to disk) is shared by as many as are waiting, and nobody waits for company.
 */
export class GroupCommit<I, O> {
  private readonly waiting: Waiting<I, O>[] = [];
  private running = 0;

  constructor(
    /** Answers one value for each item, in their order; throws when it did nothing of the group. */
    private readonly work: (items: readonly I[]) => Promise<readonly O[]>,
    private readonly options: { readonly groups: number; readonly items: number },
  ) {}

  add(item: I): Promise<O> {
    return new Promise<O>((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      void this.pump();
    });
  }

  private async pump(): Promise<void> {
    if (this.running >= this.options.groups) return;
    this.running += 1;
    // What arrives in this turn of the event loop still comes along.
    await new Promise(setImmediate);
    while (this.waiting.length > 0) await this.deal(this.waiting.splice(0, this.options.items));
    this.running -= 1;
  }

  private async deal(group: readonly Waiting<I, O>[]): Promise<void> {
    try {
      const values = await this.work(group.map(({ item }) => item));
      for (const [i, { resolve }] of group.entries()) resolve(values[i] as O);
    } catch (error) {
      if (group.length === 1 || error instanceof ImsError) for (const { reject } of group) reject(error);
      // An item that nobody foresaw must not spoil the others.
      else for (const one of group) await this.deal([one]);
    }
  }
}
