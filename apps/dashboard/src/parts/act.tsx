import { useState, type ReactNode } from 'react';
import { Button, Group, Modal, Stack, Text, TextInput, type ButtonProps } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { useChange } from '../api.js';
import { Failed } from './frame.js';

/** A button whose change is asked about first; with `reason`, also why, which is recorded. */
export function Act<R>({
  label,
  question,
  reason,
  act,
  done,
  danger = false,
  children,
  ...button
}: {
  readonly label: string;
  readonly question: string;
  /** What the field for the reason is called. */
  readonly reason?: string;
  readonly act: (reason: string | undefined) => Promise<R>;
  readonly done?: (result: R) => void;
  readonly danger?: boolean;
  readonly children?: ReactNode;
} & Pick<ButtonProps, 'variant' | 'disabled' | 'size'>) {
  const [opened, { open, close }] = useDisclosure();
  const [text, setText] = useState('');
  const change = useChange(act, (result) => {
    close();
    setText('');
    done?.(result);
  });
  return (
    <>
      <Button variant="default" {...button} color={danger ? 'red' : undefined} onClick={open}>
        {label}
      </Button>
      <Modal opened={opened} onClose={close} title={label} centered closeButtonProps={{ 'aria-label': 'close' }}>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            change.mutate(text.trim() === '' ? undefined : text.trim());
          }}
        >
          <Stack gap="sm">
            <Text fz="sm">{question}</Text>
            {children}
            {reason !== undefined && (
              <TextInput
                label={reason}
                value={text}
                maxLength={500}
                onChange={({ currentTarget }) => setText(currentTarget.value)}
                data-autofocus
              />
            )}
            {change.error !== null && <Failed error={change.error} />}
            <Group justify="flex-end" gap="xs">
              <Button variant="default" onClick={close}>
                Not now
              </Button>
              <Button type="submit" color={danger ? 'red' : undefined} loading={change.isPending}>
                {label}
              </Button>
            </Group>
          </Stack>
        </form>
      </Modal>
    </>
  );
}
