/** Users for tests, as `htpasswd -B` writes them; at the lowest cost, so that a login takes a millisecond. */

/** @param users name → password */
export async function htpasswdText(users: Readonly<Record<string, string>>): Promise<string> {
  const lines = Object.entries(users).map(async ([name, password]) => {
    const hash = await Bun.password.hash(password, { algorithm: "bcrypt", cost: 4 });
    return `${name}:${hash.replace("$2b$", "$2y$")}\n`;
  });
  return (await Promise.all(lines)).join("");
}
