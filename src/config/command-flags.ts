/**
 * Flags of single commands: they ask for something once, so they have no variable and no place in the configuration file.
 */

export interface CommandFlag {
  /** Without dashes. */
  readonly flag: string;
  /** One letter for one dash. */
  readonly short?: string;
  /** Stands for the value in help; empty for a switch. */
  readonly placeholder: string;
  /** The commands that take it. */
  readonly commands: readonly string[];
  readonly help: string;
}

export const COMMAND_FLAGS = {
  json: {
    flag: "json",
    placeholder: "",
    commands: ["cache"],
    help: "One JSON object a line instead of a table.",
  },
  file: {
    flag: "file",
    short: "f",
    placeholder: "FILE",
    commands: ["warm"],
    help: "Names of images, one a line, # begins a comment; - reads standard input.",
  },
  platform: {
    flag: "platform",
    placeholder: "OS/ARCH[/VARIANT]",
    commands: ["warm"],
    help: "Platform to pull of images that have several, or all. May be repeated. Default: this machine's.",
  },
  url: {
    flag: "url",
    placeholder: "URL",
    commands: ["warm"],
    help: "The Layover to pull through. Default: the one that runs on --cache-dir, or one just for this command.",
  },
} as const satisfies Record<string, CommandFlag>;

export type CommandFlagName = keyof typeof COMMAND_FLAGS;

export const COMMAND_FLAG_NAMES: readonly CommandFlagName[] = ["json", "file", "platform", "url"];

/** The flag by its long or short name, without dashes. */
export function commandFlagNamed(name: string): CommandFlagName | undefined {
  return COMMAND_FLAG_NAMES.find((key) => {
    const { flag, short }: CommandFlag = COMMAND_FLAGS[key];
    return flag === name || short === name;
  });
}

/** The flags that a command takes. */
export function flagsOfCommand(command: string): readonly CommandFlagName[] {
  return COMMAND_FLAG_NAMES.filter((key) => {
    const { commands }: CommandFlag = COMMAND_FLAGS[key];
    return commands.includes(command);
  });
}
