"""Another application on the same Serve: it answers with a word that its configuration holds."""

from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Echo:
    """Says the word."""

    def reconfigure(self, user_config: dict[str, str]) -> None:
        """Take a new word, without a restart."""
        self.word = user_config["word"]

    def __call__(self) -> str:
        """The word."""
        return self.word


def echo_app(word: str) -> serve.Application:
    """The application."""
    return Echo.options(user_config={"word": word}).bind()  # type: ignore[attr-defined, no-any-return]
