import { type ReactNode } from 'react';
import { Tabs } from '@mantine/core';
import { useNavigate, useParams } from 'react-router';

export interface TabOf {
  readonly name: string;
  readonly label: string;
  readonly show: () => ReactNode;
}

/** Parts of one page, each with an address of its own (`base/name`; the first one has `base`). */
export function PageTabs({ base, tabs }: { readonly base: string; readonly tabs: readonly TabOf[] }) {
  const { tab } = useParams();
  const navigate = useNavigate();
  const first = tabs[0]?.name ?? '';
  const shown = tabs.find(({ name }) => name === tab) ?? tabs[0];
  return (
    <Tabs
      value={shown?.name ?? first}
      onChange={(name) => void navigate(name === null || name === first ? base : `${base}/${name}`)}
    >
      <div className="scroll tabs">
        <Tabs.List mb="md" style={{ flexWrap: 'nowrap' }}>
          {tabs.map(({ name, label }) => (
            <Tabs.Tab key={name} value={name} className="nowrap">
              {label}
            </Tabs.Tab>
          ))}
        </Tabs.List>
      </div>
      {tabs.map(({ name, show }) => (
        <Tabs.Panel key={name} value={name}>
          {name === shown?.name ? show() : null}
        </Tabs.Panel>
      ))}
    </Tabs>
  );
}
