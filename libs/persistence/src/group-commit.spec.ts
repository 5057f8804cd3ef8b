import { ImsError } from '#contracts';
import { GroupCommit } from './group-commit.js';

/** A work that waits to be let on, and remembers its groups. */
function gate(): { groups: number[][]; work: (items: readonly number[]) => Promise<number[]>; open: () => void } {
  const groups: number[][] = [];
  let open = (): void => undefined;
  const work = async (items: readonly number[]): Promise<number[]> => {
    groups.push([...items]);
    await new Promise<void>((resolve) => (open = resolve));
    return items.map((item) => item * 10);
  };
  return { groups, work, open: () => open() };
}
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));

it('deals at once with what is there, and with what came meanwhile as one group', async () => {
  const { groups, work, open } = gate();
  const commit = new GroupCommit(work, { groups: 1, items: 3 });
  const answers = [commit.add(1)];
  await turn();
  answers.push(commit.add(2), commit.add(3), commit.add(4), commit.add(5));
  for (let i = 0; i < 3; i++) {
    open();
    await turn();
  }
  expect(await Promise.all(answers)).toEqual([10, 20, 30, 40, 50]);
  expect(groups).toEqual([[1], [2, 3, 4], [5]]);
});

it('lets an item that fails spoil no other, and tells all of a group when the database is away', async () => {
  const seen: number[][] = [];
  const commit = new GroupCommit(
    (items: readonly number[]) => {
      seen.push([...items]);
      if (items.includes(9)) return Promise.reject(new ImsError('unavailable'));
      return items.includes(2) ? Promise.reject(new Error('odd')) : Promise.resolve(items);
    },
    { groups: 1, items: 3 },
  );
  const results = await Promise.allSettled([1, 2, 3, 8, 9].map((item) => commit.add(item)));
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected', 'rejected']);
  expect(seen).toEqual([[1, 2, 3], [1], [2], [3], [8, 9]]);
});
