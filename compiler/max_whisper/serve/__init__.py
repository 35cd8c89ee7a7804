"""The server: the protocols of OpenAI, Bazarr and Wyoming, and a page, in front of the models of this process."""
